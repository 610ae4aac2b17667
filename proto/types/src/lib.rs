//! capstan-types
