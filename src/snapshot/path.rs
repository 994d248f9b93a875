//! The canonical form of a request path, so that what is matched is what is forwarded (RFC 3986, section 6.2.2).

use std::borrow::Cow;

/// Why a path has no canonical form. Such a request is answered 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathError {
    /// More `..` than segments before them.
    AboveRoot,
    /// A raw backslash, control byte, space or byte outside ASCII, or an encoded NUL.
    Byte,
    /// A `%` without two hexadecimal digits.
    Escape,
    /// It does not start with a slash.
    NotAbsolute,
}

/// The canonical form: unreserved characters decoded, escapes in upper case, characters that have no place in a path
/// escaped, dot segments resolved, repeated slashes merged unless `keep_slashes`. Borrowed when `path` is already
/// canonical: one look at each byte, no allocation.
pub fn canonical(path: &str, keep_slashes: bool) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_canonical(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    resolve(&unescape(path)?, keep_slashes).map(Cow::Owned)
}

/// The path that a rewrite or redirect was given, as it is sent: all of it is path, so that what has no place in one
/// (`?`, `#`, a space, a `%` that escapes nothing) is escaped; dot segments are resolved, none of them above the root.
/// What is escaped stays so, and repeated slashes stay.
pub fn written(path: &str) -> String {
    let escaped = escaped(path);
    let mut segments = Vec::new();
    let mut directory = false;
    for segment in escaped.strip_prefix('/').unwrap_or(&escaped).split('/') {
        let dots = segment.replace("%2e", ".").replace("%2E", ".");
        directory = matches!(&*dots, "." | "..");
        match &*dots {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if directory {
        segments.push("");
    }
    format!("/{}", segments.join("/"))
}

/// A path with what has no place in one escaped, and nothing else touched.
pub fn escaped(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let is_escape = || bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match byte {
            b'%' if is_escape() => out.push('%'),
            byte if byte == b'/' || is_segment_byte(byte) => out.push(byte as char),
            byte => escape_into(&mut out, byte),
        }
    }
    out
}

/// The other paths that a backend may read in a canonical `path`: with `%2F` and `%5C` decoded, with `;parameters` left
/// out, with both. Empty for nearly every path.
pub fn readings(path: &str) -> Vec<Result<String, PathError>> {
    if memchr::memchr2(b'%', b';', path.as_bytes()).is_none() {
        return Vec::new();
    }
    let escaped = path.contains("%2F") || path.contains("%5C");
    let parameters = path.contains(';');
    if !escaped && !parameters {
        return Vec::new();
    }
    let slashes = path.replace("%2F", "/");
    let decoded = slashes.replace("%5C", "/");
    let mut readings = Vec::with_capacity(4);
    if escaped {
        readings.push(resolve(&slashes, false));
        readings.push(resolve(&decoded, false));
    }
    if parameters {
        readings.push(resolve(&without_parameters(path), false));
        readings.push(resolve(&without_parameters(&decoded), false));
    }
    readings
}

/// Conservative: false also where only a closer look could tell.
fn is_canonical(path: &[u8]) -> bool {
    let mut before = 0;
    for &byte in path {
        let plain = match byte {
            b'/' | b'.' => before != b'/',
            byte => is_segment_byte(byte),
        };
        if !plain {
            return false;
        }
        before = byte;
    }
    true
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 without escapes.
fn is_segment_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

/// Decodes what need not be escaped and escapes what must be.
fn unescape(path: &str) -> Result<String, PathError> {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let escape = bytes.get(at + 1..at + 3).ok_or(PathError::Escape)?;
                let byte = hex(escape[0])? << 4 | hex(escape[1])?;
                match byte {
                    0 => return Err(PathError::Byte),
                    byte if is_unreserved(byte) => out.push(byte as char),
                    byte => escape_into(&mut out, byte),
                }
                at += 2;
            }
            b'\\' | 0..=b' ' | 0x7f.. => return Err(PathError::Byte),
            byte if byte == b'/' || is_segment_byte(byte) => out.push(byte as char),
            byte => escape_into(&mut out, byte),
        }
        at += 1;
    }
    Ok(out)
}

fn hex(digit: u8) -> Result<u8, PathError> {
    (digit as char).to_digit(16).map(|value| value as u8).ok_or(PathError::Escape)
}

fn escape_into(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)] as char);
    out.push(DIGITS[usize::from(byte & 15)] as char);
}

/// Resolves dot segments (RFC 3986, section 5.2.4) and merges slashes.
fn resolve(path: &str, keep_slashes: bool) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path[1..].split('/').peekable();
    let mut directory = false;
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        directory = last && matches!(segment, "" | "." | "..");
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').ok_or(PathError::AboveRoot)?),
            "" if last || !keep_slashes => {}
            segment => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    if directory || out.is_empty() {
        out.push('/');
    }
    Ok(out)
}

fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_sent_as_a_path() {
        for (path, want) in [
            ("/a b", "/a%20b"),
            ("/\u{fc}", "/%C3%BC"),
            ("/%20?x=1#y", "/%20%3Fx=1%23y"),
            ("/a;b=c", "/a;b=c"),
            ("/100%/%zz/%2f", "/100%25/%25zz/%2f"),
            ("/a/../b/./c", "/b/c"),
            ("/../../x/..", "/"),
            ("/a/b/%2e%2E", "/a/"),
            ("/a//b/", "/a//b/"),
            ("a", "/a"),
            ("", "/"),
            ("/a\r\nX: y\0", "/a%0D%0AX:%20y%00"),
        ] {
            assert_eq!(written(path), want, "{path}");
            assert_eq!(written(want), want, "{want} again");
        }
    }

    #[test]
    fn canonical_forms() {
        for (path, want) in [
            ("/", "/"),
            ("/a/b.txt", "/a/b.txt"),
            ("/a/../b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61%7euser", "/a~user"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("//a///b//", "/a/b/"),
            ("/group%2fproject", "/group%2Fproject"),
            ("/a%5cb;v=1", "/a%5Cb;v=1"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a{b}|\"", "/a%7Bb%7D%7C%22"),
            ("/a%25b", "/a%25b"),
        ] {
            assert_eq!(canonical(path, false).as_deref(), Ok(want), "{path}");
            assert_eq!(canonical(want, false).as_deref(), Ok(want), "{want} again");
        }
    }

    #[test]
    fn refused() {
        for (path, want) in [
            ("/..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/b", PathError::AboveRoot),
            ("/a\\b", PathError::Byte),
            ("/a\u{1}", PathError::Byte),
            ("/é", PathError::Byte),
            ("/a%00", PathError::Byte),
            ("/a%", PathError::Escape),
            ("/a%4", PathError::Escape),
            ("/a%zz", PathError::Escape),
            ("a", PathError::NotAbsolute),
            ("", PathError::NotAbsolute),
        ] {
            assert_eq!(canonical(path, false), Err(want), "{path}");
        }
    }

    #[test]
    fn slashes_are_kept_on_request() {
        for path in ["//a///b//", "/a//", "//"] {
            assert_eq!(canonical(path, true).as_deref(), Ok(path));
        }
        assert_eq!(canonical("/a//../b", true).as_deref(), Ok("/a/b"));
    }

    #[test]
    fn other_readings() {
        let of = |path| readings(path).into_iter().map(|reading| reading.unwrap_or_default()).collect::<Vec<_>>();
        assert!(of("/a/b%20c").is_empty());
        assert_eq!(of("/a%2Fb"), ["/a/b", "/a/b"]);
        assert_eq!(of("/a/..%2F..%2Fb"), ["", ""]);
        assert_eq!(of("/a/x;y/b"), ["/a/x/b", "/a/x/b"]);
        assert_eq!(of("/a/..;/b"), ["/b", "/b"]);
        assert_eq!(of("/a/..%5Cb"), ["/a/..%5Cb", "/b"]);
    }

    proptest::proptest! {
        #[test]
        fn a_canonical_path_is_its_own_canonical_form(path in "/([a-c.;/~ \\\\]|%[0-9a-fA-F]{2}|\\PC){0,24}") {
            if let Ok(first) = canonical(&path, false) {
                assert_eq!(canonical(&first, false).as_deref(), Ok(&*first));
                assert!(first.starts_with('/') && first.is_ascii() && !first.contains("//"), "{first}");
                assert!(!first.split('/').any(|segment| segment == "." || segment == ".."), "{first}");
            }
            for reading in readings(&path).into_iter().flatten() {
                assert!(reading.starts_with('/'));
            }
        }
    }
}
