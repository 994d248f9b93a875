//! placeholder
use crate::{
    api::ObjectKey,
    finding::Finding,
    manifest::{Ignored, Object},
};
#[derive(Clone, Debug, Default)]
pub struct ParsedFile {
    pub objects: Vec<Object>,
    pub ignored: Vec<Ignored>,
    pub findings: Vec<Finding>,
    pub documents: usize,
    pub rejected: usize,
    pub whole_file_rejected: bool,
    pub rejected_keys: Vec<ObjectKey>,
    pub only_comments: bool,
}
