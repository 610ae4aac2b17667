//! capstan-runtime
