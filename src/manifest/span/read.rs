//! Parser events to documents, within bounds.

mod refused;

use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::{
    Bounds, Content, Document, Node, Place, Problem, Refusal,
    documents::{Piece, pieces, unknown_directive},
    mapping::Mapping,
    scalar::{self, Scalar},
};

/// Reads the documents of a decoded text; empty ones are left out.
///
/// # Errors
/// A syntax error, or a bound that is passed: the whole text is refused.
pub fn read(text: &str, bounds: &Bounds) -> Result<Vec<Document>, Refusal> {
    let mut documents = Vec::new();
    let mut nodes = 0;
    for (index, piece) in pieces(text).enumerate() {
        if index >= bounds.documents {
            return Err(Refusal {
                place: Place { line: piece.lines as u32 + 1, column: 1, start: piece.start, end: piece.start + 3 },
                reason: "TooManyDocuments",
                message: format!("the file has more than {} documents", bounds.documents),
                remedy: "split the file".to_owned(),
            });
        }
        let mut reader = Reader::new(piece, bounds, nodes);
        let document = reader.document()?;
        nodes = reader.nodes;
        if !document.root.is_null() || !document.problems.is_empty() {
            documents.push(document);
        }
    }
    Ok(documents)
}

/// A value with what the values around it need to know.
#[derive(Clone, Debug)]
struct Value {
    node: Node,
    /// The typed scalar, where this is one: keys compare by it.
    scalar: Option<Scalar>,
    /// A plain `<<`.
    merge: bool,
    /// Written as an alias.
    alias: bool,
    /// Nodes in it, aliases expanded; 1 for a scalar.
    size: usize,
    /// Collections inside each other in it; 0 for a scalar.
    depth: usize,
}

/// A collection that is open.
struct Frame {
    kind: Collection,
    place: Place,
    anchor: usize,
    size: usize,
    depth: usize,
}

enum Collection {
    List(Vec<Node>),
    /// The entries, and the key whose value comes next.
    Map(Box<Mapping>, Option<Box<Value>>),
}

/// The last token with content.
struct Last {
    end: usize,
    /// The style, where it was a scalar.
    style: Option<ScalarStyle>,
}

struct Reader<'a> {
    piece: Piece<'a>,
    bounds: &'a Bounds,
    /// Nodes of the file so far.
    nodes: usize,
    /// Nodes of this document that stand there because of an alias, and all of them: go-yaml's measure of a bomb.
    aliased: usize,
    own: usize,
    /// Nodes of this document that are kept a second time, for aliases to come.
    kept: usize,
    open: Vec<Frame>,
    /// Flow collections that are open, and where the last token ended: what tabs are judged by.
    flow: usize,
    last: Last,
    anchors: HashMap<usize, Value>,
    problems: Vec<Problem>,
    root: Option<Node>,
}

impl<'a> Reader<'a> {
    fn new(piece: Piece<'a>, bounds: &'a Bounds, nodes: usize) -> Reader<'a> {
        Reader {
            piece,
            bounds,
            nodes,
            aliased: 0,
            own: 0,
            kept: 0,
            open: Vec::new(),
            flow: 0,
            last: Last { end: piece.start, style: None },
            anchors: HashMap::new(),
            problems: Vec::new(),
            root: None,
        }
    }

    fn document(&mut self) -> Result<Document, Refusal> {
        if let Some(name) = unknown_directive(self.piece.text) {
            let message = format!("unknown directive {name}");
            return Err(self.refuse(
                self.place(&Span::empty(Marker::new(0, 1, 0))),
                "SyntaxError",
                message,
                "remove it",
            ));
        }
        let options = granit_parser::options! {
            emit_comments: false,
            emit_anchor_events: true,
            block_scalar_eof_without_line_feed: true,
            // The parser looks ahead of its events; what it meets there is counted by `begin`.
            flow_nesting_limit: self.bounds.depth + 2048,
            block_nesting_limit: self.bounds.depth + 2048,
        };
        let mut parser = Parser::new_from_str_with_options(self.piece.text, options);
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|error| self.syntax(&error))?;
            if matches!(event, Event::DocumentEnd) {
                self.tabs(self.place(&span))?;
                if span.is_empty() {
                    self.nothing_follows(&mut parser)?;
                }
                break;
            }
            self.event(event, &span)?;
        }
        let empty = Node { content: Content::Null, place: Place::default() };
        Ok(Document { root: self.root.take().unwrap_or(empty), problems: std::mem::take(&mut self.problems) })
    }

    /// Behind a document without `...` there may be nothing: go-yaml would pass over it in silence.
    fn nothing_follows(&self, parser: &mut Parser<'a, granit_parser::StrInput<'a>>) -> Result<(), Refusal> {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => Ok(()),
            Some(Ok((_, span))) => {
                let message = "text follows the end of the document".to_owned();
                Err(self.refuse(self.place(&span), "SyntaxError", message, "begin a new document with a line ---"))
            }
            Some(Err(error)) => Err(self.syntax(&error)),
        }
    }

    fn event(&mut self, event: Event<'a>, span: &Span) -> Result<(), Refusal> {
        let place = self.place(span);
        if !matches!(event, Event::Anchor(..)) {
            self.tabs(place)?;
        }
        self.note(&event, place);
        match event {
            Event::DocumentStart(_, Some(version)) if (version.major, version.minor) != (1, 1) => {
                let message = format!("YAML {}.{} is not read", version.major, version.minor);
                return Err(self.refuse(place, "SyntaxError", message, "remove the directive, or write %YAML 1.1"));
            }
            Event::Scalar(text, style, anchor, tag) => {
                if style == ScalarStyle::DoubleQuoted {
                    self.escapes(place)?;
                }
                let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
                let plain = style == ScalarStyle::Plain;
                let merge = text == "<<" && tag.as_deref().map_or(plain, |tag| tag == "tag:yaml.org,2002:merge");
                let value = self.scalar(tag.as_deref(), plain, &text, place, merge);
                self.count(1, place)?;
                self.finish(value, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Collection::List(Vec::new()), place, anchor)?,
            Event::MappingStart(_, anchor, _) => self.begin(Collection::Map(Box::default(), None), place, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(place)?,
            Event::Alias(id) => self.alias(id, place)?,
            Event::Anchor(_, name) => self.anchor_name(&name, place)?,
            _ => {}
        }
        Ok(())
    }

    fn scalar(&mut self, tag: Option<&str>, plain: bool, text: &str, place: Place, merge: bool) -> Value {
        let resolved = scalar::resolve(tag, plain, text);
        let scalar = resolved.unwrap_or_else(|message| {
            self.problem(place, message, "write a value of that type, or remove the tag");
            Scalar::Text(text.to_owned())
        });
        let content = scalar.clone().content();
        Value {
            node: Node { content: content.unwrap_or(Content::Float(f64::INFINITY)), place },
            scalar: Some(scalar),
            merge,
            alias: false,
            size: 1,
            depth: 0,
        }
    }

    fn begin(&mut self, kind: Collection, place: Place, anchor: usize) -> Result<(), Refusal> {
        if self.open.len() >= self.bounds.depth {
            return Err(self.too_deep(place));
        }
        self.count(1, place)?;
        self.open.push(Frame { kind, place, anchor, size: 1, depth: 1 });
        Ok(())
    }

    fn end(&mut self, end: Place) -> Result<(), Refusal> {
        let frame = self.open.pop().expect("the parser ends only what it began");
        let content = match frame.kind {
            Collection::List(items) => Content::List(items),
            Collection::Map(mapping, _) => Content::Map(mapping.finish()),
        };
        let place = Place { end: end.end.max(frame.place.start), ..frame.place };
        let value = Value {
            node: Node { content, place },
            scalar: None,
            merge: false,
            alias: false,
            size: frame.size,
            depth: frame.depth,
        };
        self.finish(value, frame.anchor)
    }

    /// A value is complete: it goes into the collection around it.
    fn finish(&mut self, value: Value, anchor: usize) -> Result<(), Refusal> {
        if anchor != 0 {
            self.kept += value.size;
            self.count(0, value.node.place)?;
            self.anchors.insert(anchor, value.clone());
        }
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(value.node);
            return Ok(());
        };
        frame.size += value.size;
        frame.depth = frame.depth.max(value.depth + 1);
        let place = value.node.place;
        let outcome = match &mut frame.kind {
            Collection::List(items) => not_finite(&value.node).map(|()| items.push(value.node)),
            Collection::Map(mapping, key) => match key.take() {
                None => {
                    *key = Some(Box::new(value));
                    Ok(())
                }
                Some(key) if key.merge => mapping.merge(value.node, !value.alias),
                Some(key) => entry(mapping, &key, value.node),
            },
        };
        if let Err(message) = outcome {
            self.problem(place, message, "");
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, place: Place) -> Result<(), Refusal> {
        self.anchor_name(self.slice(place).strip_prefix('*').unwrap_or_default().to_owned().as_str(), place)?;
        let Some(value) = self.anchors.get(&id) else {
            return Err(self.refuse(place, "SyntaxError", "the anchor contains itself".to_owned(), "write it out"));
        };
        let (size, depth) = (value.size, value.depth);
        if self.open.len() + depth > self.bounds.depth {
            return Err(self.too_deep(place));
        }
        self.count(size + 1, place)?;
        self.aliased += size;
        if self.bomb() {
            let message = "nearly all of the document comes from aliases".to_owned();
            return Err(self.refuse(place, "TooManyAliases", message, "write less of it as aliases"));
        }
        let mut value = self.anchors[&id].clone();
        value.node.place = place;
        value.alias = true;
        value.merge = false;
        value.size = size + 1;
        self.finish(value, 0)
    }

    /// go-yaml's bound: more than 99 % of the nodes from aliases, less than that in large documents.
    fn bomb(&self) -> bool {
        let (low, high) = (400_000.0, 4_000_000.0);
        let all = self.own as f64;
        let share = (0.99 - 0.89 * ((all - low) / (high - low))).clamp(0.10, 0.99);
        self.aliased > 100 && self.own > 1000 && self.aliased as f64 / all > share
    }

    fn count(&mut self, more: usize, place: Place) -> Result<(), Refusal> {
        self.nodes += more;
        self.own += more;
        if self.nodes + self.kept > self.bounds.nodes {
            let message = format!("the file has more than {} nodes, aliases expanded", self.bounds.nodes);
            return Err(self.refuse(place, "TooManyNodes", message, "split the file"));
        }
        Ok(())
    }

    fn problem(&mut self, place: Place, message: String, remedy: &str) {
        self.problems.push(Problem { place, message, remedy: remedy.to_owned() });
    }

    fn too_deep(&self, place: Place) -> Refusal {
        let message = format!("collections stand more than {} deep inside each other", self.bounds.depth);
        self.refuse(place, "TooDeep", message, "")
    }

    fn syntax(&self, error: &ScanError) -> Refusal {
        let place = self.place(&Span::empty(*error.marker()));
        let message = error.info();
        let remedy = if message.starts_with("tabs") { "indent with spaces" } else { "" };
        self.refuse(place, "SyntaxError", message, remedy)
    }

    fn refuse(&self, place: Place, reason: &'static str, message: String, remedy: &str) -> Refusal {
        Refusal { place, reason, message, remedy: remedy.to_owned() }
    }

    fn slice(&self, place: Place) -> &'a str {
        let piece = self.piece;
        piece.text.get(place.start - piece.start..place.end - piece.start).unwrap_or_default()
    }

    fn place(&self, span: &Span) -> Place {
        let offset = |marker: &Marker| self.piece.start + marker.byte_offset().unwrap_or(0);
        let (start, end) = (offset(&span.start), offset(&span.end));
        Place {
            line: (self.piece.lines + span.start.line()) as u32,
            column: span.start.col() as u32 + 1,
            start,
            end: end.max(start),
        }
    }
}

fn entry(mapping: &mut Mapping, key: &Value, node: Node) -> Result<(), String> {
    let Some(scalar) = &key.scalar else { return Err("a list or a map is no key".to_owned()) };
    not_finite(&node)?;
    mapping.add(scalar, key.node.place, node)
}

fn not_finite(node: &Node) -> Result<(), String> {
    match node.content {
        Content::Float(number) if !number.is_finite() => Err("JSON has no such number".to_owned()),
        _ => Ok(()),
    }
}
