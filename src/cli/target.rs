//! Which objects does a command line name? `gateways`, `gtw,httproutes`, `gateway echo`, `gateway/echo httproute/a`.

use crate::api::{KINDS, Kind};

use super::Failure;

/// A kind, and the names asked for; none means all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    pub kind: Kind,
    pub names: Vec<String>,
}

/// The targets that `words` name, as kubectl reads them.
///
/// # Errors
/// [`Failure::Usage`] for an unknown kind, with the list of kinds, or a mixture of the two forms.
pub fn parse(words: &[String]) -> Result<Vec<Target>, Failure> {
    if words.iter().any(|word| word.contains('/')) {
        return words.iter().map(|word| parse_pair(word)).collect();
    }
    let (kinds, names) =
        words.split_first().ok_or_else(|| Failure::Usage(format!("name a kind: {}", known_kinds())))?;
    kinds.split(',').map(|word| Ok(Target { kind: parse_kind(word)?, names: names.to_vec() })).collect()
}

/// `kind/name`.
fn parse_pair(word: &str) -> Result<Target, Failure> {
    match word.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => {
            Ok(Target { kind: parse_kind(kind)?, names: vec![name.to_owned()] })
        }
        _ => Err(Failure::Usage(format!("{word:?} is not of the form KIND/NAME, as the other arguments are"))),
    }
}

fn parse_kind(word: &str) -> Result<Kind, Failure> {
    Kind::from_argument(word)
        .ok_or_else(|| Failure::Usage(format!("there is no kind {word:?}; kinds are: {}", known_kinds())))
}

/// Every kind with its short names: `gateways (gtw), httproutes`.
fn known_kinds() -> String {
    let kinds = KINDS.iter().map(|names| match names.short {
        [] => names.plural.to_owned(),
        short => format!("{} ({})", names.plural, short.join(", ")),
    });
    kinds.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(Kind, String)>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&words) {
            Ok(targets) => Ok(targets.into_iter().map(|target| (target.kind, target.names.join("+"))).collect()),
            Err(Failure::Usage(message)) => Err(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn kubectls_forms() {
        assert_eq!(read("gateways"), Ok(vec![(Kind::Gateway, String::new())]));
        assert_eq!(read("GTW a b"), Ok(vec![(Kind::Gateway, "a+b".into())]));
        assert_eq!(read("svc,httproutes.gateway.networking.k8s.io").map(|targets| targets.len()), Ok(2));
        assert_eq!(read("gateway/a httproute/b"), Ok(vec![(Kind::Gateway, "a".into()), (Kind::HttpRoute, "b".into())]));
    }

    #[test]
    fn what_is_not_understood_is_explained() {
        assert!(read("pods").is_err_and(|message| message.contains("\"pods\"") && message.contains("gateways (gtw)")));
        assert!(read("gateway/a b").is_err_and(|message| message.contains("KIND/NAME")));
        assert!(read("gateway/").is_err());
        assert!(read("").is_err());
    }
}
