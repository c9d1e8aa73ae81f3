"""Measures a Stele cluster, and an etcd cluster beside it, with one load generator.

``python -m bench --help`` says what can be measured.
"""
