"""The ledger state machine on RocksDB: journal, Merkle tree, documents, history, fsck."""
