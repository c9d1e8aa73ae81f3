// Checks inclusion proofs of Stele with @sigstore/verify, code that nobody here wrote.
//
// Standard input: JSON [{"key", "checkpoint", "index", "entry", "path"}, …] with a verifier key, a signed note,
// and hex. Standard output: JSON [null | the error's message, …]. Run with the package in NODE_PATH.
"use strict";
const crypto = require("crypto");
const fs = require("fs");
const path = require("path");

// Its readers of checkpoints and paths are not exported; they are reached beside the package's main file.
const inside = path.join(path.dirname(require.resolve("@sigstore/verify")), "tlog");
const { verifyCheckpoint } = require(path.join(inside, "checkpoint.js"));
const { verifyMerkleInclusion } = require(path.join(inside, "merkle.js"));

const SPKI_BEFORE_ED25519 = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410, section 4

function log(verifierKey) {
  const [name, hint, ...rest] = verifierKey.split("+");
  const key = Buffer.from(rest.join("+"), "base64").subarray(1);
  const publicKey = crypto.createPublicKey({
    key: Buffer.concat([SPKI_BEFORE_ED25519, key]), format: "der", type: "spki",
  });
  return { baseURL: name, logID: Buffer.from(hint, "hex"), publicKey };
}

function check({ key, checkpoint, index, entry, path: hashes }) {
  const claim = {
    canonicalizedBody: Buffer.from(entry, "hex"),
    inclusionProof: {
      checkpoint: { envelope: checkpoint },
      logIndex: String(index),
      hashes: hashes.map((hash) => Buffer.from(hash, "hex")),
    },
  };
  try {
    verifyMerkleInclusion(claim, verifyCheckpoint(claim, [log(key)]));
    return null;
  } catch (error) {
    return error.message;
  }
}

process.stdout.write(JSON.stringify(JSON.parse(fs.readFileSync(0, "utf8")).map(check)));
