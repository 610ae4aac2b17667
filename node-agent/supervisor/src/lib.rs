//! capstan-supervisor
