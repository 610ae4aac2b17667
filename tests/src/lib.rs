//! capstan-tests
