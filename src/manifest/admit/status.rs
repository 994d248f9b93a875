//! `status` as written in a manifest: the server drops its values on create, but names that it does not know are
//! faults all the same. gapi keeps the values: conditions of other controllers go into the status files.

use super::{Fields, Judge, Reason};
use crate::manifest::span::{Content, Node};

/// Which names a part of `status` knows.
pub enum Shape {
    /// A scalar, whose type is not judged; what is inside a map or list in its place is unknown.
    Scalar,
    /// An object with these fields.
    Object(&'static [(&'static str, Shape)]),
    /// A list of objects or scalars.
    List(&'static Shape),
}

/// `GatewayClass.status`.
pub const GATEWAY_CLASS: Shape = Shape::Object(&[
    ("conditions", CONDITIONS),
    ("supportedFeatures", Shape::List(&Shape::Object(&[("name", Shape::Scalar)]))),
]);

/// `Gateway.status`.
pub const GATEWAY: Shape = Shape::Object(&[
    (
        "addresses",
        Shape::List(&Shape::Object(&[
            ("routability", Shape::Scalar),
            ("type", Shape::Scalar),
            ("value", Shape::Scalar),
        ])),
    ),
    ("attachedListenerSets", Shape::Scalar),
    ("conditions", CONDITIONS),
    (
        "listeners",
        Shape::List(&Shape::Object(&[
            ("attachedRoutes", Shape::Scalar),
            ("conditions", CONDITIONS),
            ("name", Shape::Scalar),
            ("supportedKinds", Shape::List(&Shape::Object(&[("group", Shape::Scalar), ("kind", Shape::Scalar)]))),
        ])),
    ),
]);

/// `status` of every route kind.
pub const ROUTE: Shape = Shape::Object(&[(
    "parents",
    Shape::List(&Shape::Object(&[
        ("conditions", CONDITIONS),
        ("controllerName", Shape::Scalar),
        (
            "parentRef",
            Shape::Object(&[
                ("group", Shape::Scalar),
                ("kind", Shape::Scalar),
                ("name", Shape::Scalar),
                ("namespace", Shape::Scalar),
                ("port", Shape::Scalar),
                ("sectionName", Shape::Scalar),
            ]),
        ),
    ])),
)]);

const CONDITIONS: Shape = Shape::List(&Shape::Object(&[
    ("lastTransitionTime", Shape::Scalar),
    ("message", Shape::Scalar),
    ("observedGeneration", Shape::Scalar),
    ("reason", Shape::Scalar),
    ("status", Shape::Scalar),
    ("type", Shape::Scalar),
]));

/// The field `status` of a document: kept as written, judged for unknown names only.
pub fn status(fields: &mut Fields, shape: &Shape) {
    fields.optional("status", |judge, node| {
        judge.shape(node, shape);
        Some(node.value())
    });
}

impl Judge {
    /// Reports names below `node` that `shape` does not know, whatever the types of the values.
    pub fn shape(&mut self, node: &Node, shape: &Shape) {
        match &node.content {
            Content::Map(entries) => {
                let known = if let Shape::Object(known) = shape { *known } else { &[] };
                for entry in &entries.entries {
                    let inner = known.iter().find(|(name, _)| *name == entry.key).map(|(_, shape)| shape);
                    self.field(&entry.key, |judge| match inner {
                        Some(shape) => judge.shape(&entry.node, shape),
                        None => {
                            let message = format!("unknown field {:?}", entry.key);
                            judge.fault(Reason::UnknownField, entry.key_place, message, "remove it");
                        }
                    });
                }
            }
            Content::List(items) => {
                let item = if let Shape::List(item) = shape { item } else { &Shape::Scalar };
                for (index, node) in items.iter().enumerate() {
                    self.at(format_args!("[{index}]"), |judge| judge.shape(node, item));
                }
            }
            _ => {}
        }
    }
}
