// Reads a ledger of Stele with golang.org/x/mod/sumdb/{tlog,note}, code that nobody here wrote.
//
// It opens the signed checkpoint, reads tiles through tlog.TileHashReader (which authenticates each against
// the checkpoint's root), checks that every entry is the record its tile says, and checks the inclusion and
// consistency proofs of tlog's own making and of the server's. It prints one line of JSON, or exits with 1.
//
// Only what differs from the Go checksum database is here: its tiles lie at tile/<H>/<L>, those of C2SP
// tlog-tiles at tile/<L>, its records at data and not in length-prefixed bundles, and its checkpoint has a
// fixed first line.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

const bodySizeBytesMax = 4 << 20

type tiles struct {
	url   string
	saved map[string]bool
}

func (t *tiles) Height() int { return height }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	found := make([][]byte, len(wanted))
	for i, tile := range wanted {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		body, err := get(t.url + "/tlog/" + path)
		if err != nil {
			return nil, err
		}
		found[i] = body
	}
	return found, nil
}

// SaveTiles is told which tiles were found to be part of the signed tree.
func (t *tiles) SaveTiles(wanted []tlog.Tile, data [][]byte) {
	for _, tile := range wanted {
		t.saved[tile.Path()] = true
	}
}

func get(url string) ([]byte, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, bodySizeBytesMax))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return body, nil
}

// checkpoint opens a signed note whose text is "origin\nsize\nroot\n" (C2SP tlog-checkpoint).
func checkpoint(text []byte, key string) (string, tlog.Tree, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return "", tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 {
		return "", tlog.Tree{}, fmt.Errorf("a checkpoint of %d lines", len(lines))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return "", tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return "", tlog.Tree{}, fmt.Errorf("the root %q is no hash", lines[2])
	}
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return lines[0], tree, nil
}

// entries reads one bundle of `width` entries.
func entries(url string, index, width int64) ([][]byte, error) {
	tile := tlog.Tile{H: height, L: 0, N: index, W: int(width)}
	place := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/0/", height), "tile/entries/", 1)
	body, err := get(url + "/tlog/" + place)
	if err != nil {
		return nil, err
	}
	var found [][]byte
	for len(body) > 0 {
		if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
			return nil, fmt.Errorf("bundle %d is cut off", index)
		}
		end := 2 + int(binary.BigEndian.Uint16(body))
		found = append(found, body[2:end])
		body = body[end:]
	}
	if int64(len(found)) != width {
		return nil, fmt.Errorf("bundle %d has %d entries, not %d", index, len(found), width)
	}
	return found, nil
}

func checkEntries(url string, tree tlog.Tree, reader tlog.HashReader) error {
	for first := int64(0); first < tree.N; first += 1 << height {
		width := tree.N - first
		if width > 1<<height {
			width = 1 << height
		}
		found, err := entries(url, first>>height, width)
		if err != nil {
			return err
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i, entry := range found {
			if tlog.RecordHash(entry) != hashes[i] {
				return fmt.Errorf("entry %d is not what its tile says", first+int64(i))
			}
			var header struct{ Seq int64 }
			if err := json.Unmarshal(entry, &header); err != nil || header.Seq != first+int64(i) {
				return fmt.Errorf("entry %d says that it is block %d (%v)", first+int64(i), header.Seq, err)
			}
		}
	}
	return nil
}

// served reads the hashes of a proof that the server made.
func served(url string) ([]tlog.Hash, error) {
	body, err := get(url)
	if err != nil {
		return nil, err
	}
	var answer struct{ Path []string }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	path := make([]tlog.Hash, len(answer.Path))
	for i, text := range answer.Path {
		decoded, err := hex.DecodeString(text)
		if err != nil || len(decoded) != tlog.HashSize {
			return nil, fmt.Errorf("%q is no hash", text)
		}
		copy(path[i][:], decoded)
	}
	return path, nil
}

func checkInclusion(url string, tree tlog.Tree, seq int64, reader tlog.HashReader) error {
	hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, seq)})
	if err != nil {
		return err
	}
	made, err := tlog.ProveRecord(tree.N, seq, reader)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(made, tree.N, tree.Hash, seq, hashes[0]); err != nil {
		return fmt.Errorf("block %d: %v", seq, err)
	}
	path, err := served(fmt.Sprintf("%s/proofs/inclusion?seq=%d&size=%d", url, seq, tree.N))
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(path, tree.N, tree.Hash, seq, hashes[0]); err != nil {
		return fmt.Errorf("block %d, the server's proof: %v", seq, err)
	}
	return nil
}

func checkConsistency(url string, tree tlog.Tree, old int64, reader tlog.HashReader) error {
	root, err := tlog.TreeHash(old, reader)
	if err != nil {
		return err
	}
	made, err := tlog.ProveTree(tree.N, old, reader)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(made, tree.N, tree.Hash, old, root); err != nil {
		return fmt.Errorf("size %d: %v", old, err)
	}
	path, err := served(fmt.Sprintf("%s/proofs/consistency?from=%d&to=%d", url, old, tree.N))
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(path, tree.N, tree.Hash, old, root); err != nil {
		return fmt.Errorf("size %d, the server's proof: %v", old, err)
	}
	return nil
}

func read(url, key string, step int64) (map[string]interface{}, error) {
	text, err := get(url + "/tlog/checkpoint")
	if err != nil {
		return nil, err
	}
	origin, tree, err := checkpoint(text, key)
	if err != nil {
		return nil, err
	}
	source := &tiles{url: url, saved: map[string]bool{}}
	reader := tlog.TileHashReader(tree, source)
	if err := checkEntries(url, tree, reader); err != nil {
		return nil, err
	}
	proofs := 0
	for at := int64(1); at <= tree.N; at += step {
		if err := checkInclusion(url, tree, at-1, reader); err != nil {
			return nil, err
		}
		if err := checkConsistency(url, tree, at, reader); err != nil {
			return nil, err
		}
		proofs += 4
	}
	return map[string]interface{}{
		"origin": origin, "size": tree.N, "root": hex.EncodeToString(tree.Hash[:]),
		"tiles": len(source.saved), "proofs": proofs,
	}, nil
}

func main() {
	url := flag.String("url", "", "address of the ledger: http://…/v1/ledgers/NAME")
	key := flag.String("key", "", "verifier key of the ledger (C2SP signed-note)")
	step := flag.Int64("step", 37, "check the proofs of every so many blocks")
	flag.Parse()
	found, err := read(*url, *key, *step)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "go_reader:", err)
		os.Exit(1)
	}
}
