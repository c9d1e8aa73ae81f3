"""The bytes both sides agree on: canonical JSON, names, times, blocks, tree and signed notes.

Everything here is a pure function of its arguments. The checking side lives in `stele.verify`,
which shares only canonical JSON, names and times with this package.
"""
