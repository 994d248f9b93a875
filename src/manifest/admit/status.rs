//! `status` as written in a manifest: the server drops its values on create, but names that it does not know are
//! faults all the same. gapi keeps the values: conditions of other controllers go into the status files.

use super::{Fields, Judge, Reason};
use crate::manifest::span::{Content, Node};

/// Which names a part of `status` knows.
pub enum Shape {
    /// Any value; a scalar by the schema, whose type is not judged.
    Any,
    /// An object with these fields.
    Object(&'static [(&'static str, Shape)]),
    /// A list of objects or scalars.
    List(&'static Shape),
}

/// `GatewayClass.status`.
pub const GATEWAY_CLASS: Shape = Shape::Object(&[
    ("conditions", CONDITIONS),
    ("supportedFeatures", Shape::List(&Shape::Object(&[("name", Shape::Any)]))),
]);

/// `Gateway.status`.
pub const GATEWAY: Shape = Shape::Object(&[
    (
        "addresses",
        Shape::List(&Shape::Object(&[("routability", Shape::Any), ("type", Shape::Any), ("value", Shape::Any)])),
    ),
    ("attachedListenerSets", Shape::Any),
    ("conditions", CONDITIONS),
    (
        "listeners",
        Shape::List(&Shape::Object(&[
            ("attachedRoutes", Shape::Any),
            ("conditions", CONDITIONS),
            ("name", Shape::Any),
            ("supportedKinds", Shape::List(&Shape::Object(&[("group", Shape::Any), ("kind", Shape::Any)]))),
        ])),
    ),
]);

/// `status` of every route kind.
pub const ROUTE: Shape = Shape::Object(&[(
    "parents",
    Shape::List(&Shape::Object(&[
        ("conditions", CONDITIONS),
        ("controllerName", Shape::Any),
        (
            "parentRef",
            Shape::Object(&[
                ("group", Shape::Any),
                ("kind", Shape::Any),
                ("name", Shape::Any),
                ("namespace", Shape::Any),
                ("port", Shape::Any),
                ("sectionName", Shape::Any),
            ]),
        ),
    ])),
)]);

const CONDITIONS: Shape = Shape::List(&Shape::Object(&[
    ("lastTransitionTime", Shape::Any),
    ("message", Shape::Any),
    ("observedGeneration", Shape::Any),
    ("reason", Shape::Any),
    ("status", Shape::Any),
    ("type", Shape::Any),
]));

/// The field `status` of a document: kept as written, judged for unknown names only.
pub fn status(fields: &mut Fields, shape: &Shape) {
    fields.optional("status", |judge, node| {
        judge.shape(node, shape);
        Some(node.value())
    });
}

impl Judge {
    /// Reports names below `node` that `shape` does not know; values of another type are passed over.
    pub fn shape(&mut self, node: &Node, shape: &Shape) {
        match (shape, &node.content) {
            (Shape::Object(known), Content::Map(entries)) => {
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
            (Shape::List(item), Content::List(items)) => {
                for (index, node) in items.iter().enumerate() {
                    self.at(format_args!("[{index}]"), |judge| judge.shape(node, item));
                }
            }
            _ => {}
        }
    }
}
