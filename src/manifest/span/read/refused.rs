//! What go-yaml refuses and the parser, which reads YAML 1.2, takes: tabs that indent, escapes, names of anchors.

use granit_parser::{Event, ScalarStyle, StructureStyle};

use super::{Last, Reader};
use crate::manifest::span::{Place, Refusal, decode};

impl Reader<'_> {
    /// Outside of flow collections, no line may begin with white space that has a tab in it; behind a plain scalar, as
    /// its continuation, it may where the tab stands deeper than the collection.
    pub(super) fn tabs(&self, place: Place) -> Result<(), Refusal> {
        let gap =
            self.piece.text.get(self.last.end - self.piece.start..place.start.max(self.last.end) - self.piece.start);
        let block = matches!(self.last.style, Some(ScalarStyle::Literal | ScalarStyle::Folded));
        let gap = gap.filter(|gap| self.flow == 0 && !block && gap.contains('\t')).unwrap_or_default();
        let column = self.open.last().map_or(1, |frame| frame.place.column as usize);
        let continued = |tab: usize| self.last.style == Some(ScalarStyle::Plain) && tab >= column;
        for (at, _) in gap.match_indices(['\n', '\r']) {
            let blank = gap[at + 1..].bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let tab = gap[at + 1..at + 1 + blank].find('\t');
            if tab.is_some_and(|tab| !continued(tab)) {
                let message = "a tab stands where a line is indented".to_owned();
                let start = self.last.end + at + 1;
                let place = decode::place(self.piece.text, start - self.piece.start);
                let place = Place { line: place.line + self.piece.lines as u32, start, end: start + blank, ..place };
                return Err(self.refuse(place, "SyntaxError", message, "indent with spaces"));
            }
        }
        Ok(())
    }

    pub(super) fn note(&mut self, event: &Event, place: Place) {
        let (begins, ends, style) = match event {
            Event::Scalar(_, style, ..) => (0, 0, Some(*style)),
            Event::SequenceStart(StructureStyle::Flow, ..) | Event::MappingStart(StructureStyle::Flow, ..) => {
                (1, 0, None)
            }
            Event::SequenceEnd | Event::MappingEnd if self.flow > 0 => (0, 1, None),
            Event::Alias(_) => (0, 0, None),
            _ => return,
        };
        self.flow = self.flow + begins - ends;
        self.last = Last { end: place.end.max(self.last.end), style };
    }

    /// YAML 1.2 took `\/` and surrogate pairs over from JSON; YAML 1.1 has neither.
    pub(super) fn escapes(&self, place: Place) -> Result<(), Refusal> {
        let mut rest = self.slice(place);
        while let Some((_, after)) = rest.split_once('\\') {
            let hex =
                |range: std::ops::Range<usize>| after.get(range).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let surrogate = |code: Option<u32>| code.is_some_and(|code| (0xd800..0xe000).contains(&code));
            let message = match after.as_bytes().first() {
                Some(b'/') => "the escape \\/ is not of YAML 1.1",
                Some(b'u') if surrogate(hex(1..5)) => "an escape of half a character is not of YAML 1.1",
                Some(b'U') if surrogate(hex(1..9)) => "an escape of half a character is not of YAML 1.1",
                _ => {
                    rest = after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
                    continue;
                }
            };
            return Err(self.refuse(place, "SyntaxError", message.to_owned(), "write the character itself"));
        }
        Ok(())
    }

    pub(super) fn anchor_name(&self, name: &str, place: Place) -> Result<(), Refusal> {
        match name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            true => Ok(()),
            false => {
                let message = format!("{name:?} is not a name for an anchor");
                Err(self.refuse(place, "SyntaxError", message, "write letters, digits, '-' and '_'"))
            }
        }
    }
}
