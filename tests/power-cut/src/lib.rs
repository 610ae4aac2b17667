//! power-cut
