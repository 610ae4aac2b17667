//! Attempts: ledger, shim, life and end of one run of a job on this node.
