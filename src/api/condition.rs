//! Registry of every condition type and reason that gapi writes, in the spec's own words.
//!
//! Status is made of these constants alone; a golden case holds each of them.
