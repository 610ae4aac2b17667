//! capstan-gpu
