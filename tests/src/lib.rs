//! The lab: real servers that the end-to-end tests and the benchmarks start and stop.
