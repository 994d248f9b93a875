//! Where the fields of a document stand. Every object has this table as long as it lives, so it is one text and one list.

use std::collections::BTreeMap;

/// Field path → line and column, both from 1.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PositionTable {
    /// All field paths, one after another, in order.
    paths: Box<str>,
    entries: Box<[Entry]>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    /// Where the path ends in `paths`; it begins where the one before ends.
    end: u32,
    line: u32,
    column: u32,
}

impl PositionTable {
    /// Line and column of the field.
    pub fn get(&self, path: &str) -> Option<(u32, u32)> {
        let (mut low, mut high) = (0, self.entries.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.path(middle).cmp(path) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some((self.entries[middle].line, self.entries[middle].column)),
            }
        }
        None
    }

    fn path(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.entries[before].end);
        &self.paths[start as usize..self.entries[index].end as usize]
    }
}

impl From<BTreeMap<String, (u32, u32)>> for PositionTable {
    /// Paths beyond 4 GiB of text, which no file within bounds has, are left out.
    fn from(positions: BTreeMap<String, (u32, u32)>) -> PositionTable {
        let mut paths = String::new();
        let mut entries = Vec::with_capacity(positions.len());
        for (path, (line, column)) in positions {
            let Ok(end) = u32::try_from(paths.len() + path.len()) else { break };
            paths.push_str(&path);
            entries.push(Entry { end, line, column });
        }
        PositionTable { paths: paths.into(), entries: entries.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_own_place() {
        let all = ["", "kind", "metadata", "metadata.name", "spec", "spec.rules", "spec.rules[0]", "spec.rules[10]"];
        let positions = (1..).zip(all).map(|(line, path)| (path.to_owned(), (line, line + 1)));
        let table = PositionTable::from(positions.collect::<BTreeMap<_, _>>());
        for (line, path) in (1..).zip(all) {
            assert_eq!(table.get(path), Some((line, line + 1)), "{path}");
        }
        for path in ["a", "spec.", "spec.rules[1]", "specs", "metadata.namespace"] {
            assert_eq!(table.get(path), None, "{path}");
        }
        assert_eq!(PositionTable::default().get("spec"), None);
    }
}
