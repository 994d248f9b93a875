//! Cuts a text into its documents at the lines that begin with `---`.
//!
//! Each piece is read on its own, as kubectl does: what stands behind `...` is not read, and anchors end with their
//! document. `---` at the beginning of a line means this everywhere in YAML, inside quotes and block text too.

/// One document's text, with the directives and comments before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece<'a> {
    pub text: &'a str,
    /// Byte offset of the piece in the whole text.
    pub start: usize,
    /// Lines before the piece.
    pub lines: usize,
}

/// The pieces of a text, in order; at least one.
pub fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut next = Some((0, 0));
    std::iter::from_fn(move || {
        let (start, lines) = next?;
        let cut = end_of_piece(&text[start..]);
        next = cut.map(|(length, count)| (start + length, lines + count));
        let end = cut.map_or(text.len(), |(length, _)| start + length);
        Some(Piece { text: &text[start..end], start, lines })
    })
}

/// Where the next document's `---` line begins, and how many lines are before it.
fn end_of_piece(text: &str) -> Option<(usize, usize)> {
    let mut begun = false;
    let (mut at, mut count) = (0, 0);
    for line in lines(text) {
        if marker(line) {
            if begun {
                return Some((at, count));
            }
            begun = true;
        } else {
            begun = begun || !(line.trim().is_empty() || line.starts_with(['%', '#']));
        }
        at += line.len();
        count += 1;
    }
    None
}

fn marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// The lines of a text with their ends: LF, CR LF or CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = match rest.find(['\n', '\r']) {
            Some(at) if rest[at..].starts_with("\r\n") => at + 2,
            Some(at) => at + 1,
            None => rest.len(),
        };
        let (line, after) = rest.split_at(end);
        rest = after;
        Some(line)
    })
}

/// A directive before the document that YAML 1.1 does not know.
pub fn unknown_directive(piece: &str) -> Option<&str> {
    lines(piece)
        .take_while(|line| !marker(line) && (line.trim().is_empty() || line.starts_with(['%', '#'])))
        .filter(|line| line.starts_with('%'))
        .map(|line| line.split_whitespace().next().unwrap_or("%"))
        .find(|name| !matches!(*name, "%YAML" | "%TAG"))
}
