//! rendered
