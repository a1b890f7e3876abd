//! The tests that look at the project as a whole: its structure, the real binary, its endpoints, its restarts.

mod api;
mod daemon;
mod tidy;
