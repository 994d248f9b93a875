//! Status belongs to many: what other controllers wrote stays, and a condition that did not change keeps its time.

use serde_json::{Value, json};

use crate::api::{
    CONTROLLER_NAME, Condition,
    condition::{Subject, is_ours},
};

/// What a list of conditions may hold, by the CRDs.
const MAX_CONDITIONS: usize = 8;
/// What `status.parents` may hold.
const MAX_PARENTS: usize = 32;

/// What stands in the lists that are to be written anew.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// The status of the manifest, as written.
    pub written: Option<&'a Value>,
    /// Our own status document of the pass before.
    pub previous: Option<&'a Value>,
}

impl<'a> Before<'a> {
    /// The same of a part, found in both by `part`.
    pub fn part(self, part: impl Fn(&'a Value) -> Option<&'a Value>) -> Before<'a> {
        Before { written: self.written.and_then(&part), previous: self.previous.and_then(&part) }
    }
}

/// When and of what the conditions are said.
#[derive(Clone, Copy)]
pub struct Stamp<'a> {
    pub subject: Subject,
    pub generation: i64,
    /// RFC 3339, in seconds.
    pub now: &'a str,
}

/// `conditions`: ours, then those of the manifest's status that are of types that we do not write. `before` are the
/// lists that stand there. One of ours that comes with a generation keeps it.
pub fn conditions(ours: Vec<Condition>, before: Before, stamp: Stamp) -> Value {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (written, previous) = (list(before.written), list(before.previous));
    let foreign: Vec<Value> = written
        .iter()
        .filter(|condition| !is_ours(stamp.subject, condition["type"].as_str().unwrap_or_default()))
        .take(MAX_CONDITIONS)
        .cloned()
        .collect();
    let room = MAX_CONDITIONS - foreign.len();
    let ours = ours.into_iter().take(room).map(|condition| {
        // Our own last document knows best; after a restart, what came back with an exported object does.
        let before = find(&previous, &condition).or_else(|| find(&written, &condition));
        let kept = before.filter(|before| before["status"] == *condition.status);
        let time = kept.and_then(|before| before["lastTransitionTime"].as_str()).unwrap_or(stamp.now);
        json!({
            "type": condition.type_,
            "status": condition.status,
            "observedGeneration": condition.observed_generation.unwrap_or(stamp.generation),
            "lastTransitionTime": time,
            "reason": condition.reason,
            "message": condition.message,
        })
    });
    ours.collect::<Vec<_>>().into_iter().chain(foreign).collect()
}

fn find<'v>(list: &'v [Value], condition: &Condition) -> Option<&'v Value> {
    list.iter().find(|before| before["type"] == *condition.type_)
}

/// `status.parents`: the entries of other controllers as they stand, then ours. `conditions` are those of each parentRef
/// of ours, in order; an entry of ours whose parentRef is gone goes too.
pub fn parents(ours: Vec<(Value, Vec<Condition>)>, before: Before, stamp: Stamp) -> Value {
    let list = before.written.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let foreign: Vec<Value> =
        list.iter().filter(|parent| parent["controllerName"] != CONTROLLER_NAME).take(MAX_PARENTS).cloned().collect();
    let ours = ours.into_iter().map(|(reference, own)| {
        let entry = before.part(|parents| our_entry(parents, &reference));
        let conditions = conditions(own, entry.part(|parent| parent.get("conditions")), stamp);
        json!({ "parentRef": reference, "controllerName": CONTROLLER_NAME, "conditions": conditions })
    });
    let ours: Vec<Value> = ours.collect();
    foreign.into_iter().chain(ours).take(MAX_PARENTS).collect()
}

/// The entry for this parentRef.
pub(super) fn our_entry<'v>(parents: &'v Value, reference: &Value) -> Option<&'v Value> {
    let is_own = |parent: &&Value| parent["controllerName"] == CONTROLLER_NAME && parent["parentRef"] == *reference;
    parents.as_array()?.iter().find(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::{GATEWAY_ACCEPTED, GATEWAY_INVALID, ROUTE_ACCEPTED};

    const STAMP: Stamp = Stamp { subject: Subject::Gateway, generation: 3, now: "2026-01-02T00:00:00Z" };

    #[test]
    fn foreign_conditions_stay_and_ours_of_old_go() {
        let written = json!([
            { "type": "Programmed", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z" },
            { "type": "example.com/Checked", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z" },
            { "type": "AddressesAssigned", "status": "True" },
        ]);
        let before = Before { written: Some(&written), previous: None };
        let merged = conditions(vec![GATEWAY_INVALID.with("no")], before, STAMP);
        assert_eq!(merged.as_array().unwrap().len(), 2);
        assert_eq!(merged[0]["reason"], "Invalid");
        assert_eq!(merged[0]["observedGeneration"], 3);
        assert_eq!(merged[1], written[1]);
    }

    #[test]
    fn the_time_is_that_of_the_last_change_of_status() {
        let time = |previous: &Value| {
            let before = Before { written: None, previous: Some(previous) };
            conditions(vec![GATEWAY_ACCEPTED.with("new words")], before, STAMP)[0]["lastTransitionTime"].clone()
        };
        let with = |status: &str| json!([{ "type": "Accepted", "status": status, "lastTransitionTime": "2020-01-01T00:00:00Z" }]);
        assert_eq!(time(&with("True")), "2020-01-01T00:00:00Z");
        assert_eq!(time(&with("False")), STAMP.now);
        assert_eq!(time(&json!([])), STAMP.now);
    }

    #[test]
    fn conditions_fit_their_list() {
        let written: Value = (0..8).map(|i| json!({ "type": format!("example.com/{i}"), "status": "True" })).collect();
        let before = Before { written: Some(&written), previous: None };
        assert_eq!(conditions(vec![GATEWAY_ACCEPTED.with("")], before, STAMP), written);
    }

    #[test]
    fn parents_of_others_stay_and_ours_without_a_reference_go() {
        let reference = json!({ "name": "a" });
        let written = json!([
            { "parentRef": { "name": "gone" }, "controllerName": CONTROLLER_NAME, "conditions": [] },
            { "parentRef": reference, "controllerName": "example.com/other", "conditions": [{ "type": "Accepted" }] },
            { "parentRef": reference, "controllerName": CONTROLLER_NAME, "conditions": [
                { "type": "Accepted", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z" },
                { "type": "example.com/Policy", "status": "True" },
            ] },
        ]);
        let before = Before { written: Some(&written), previous: None };
        let stamp = Stamp { subject: Subject::Route, ..STAMP };
        let merged = parents(vec![(reference, vec![ROUTE_ACCEPTED.with("")])], before, stamp);
        assert_eq!(merged.as_array().unwrap().len(), 2);
        assert_eq!(merged[0], written[1]);
        assert_eq!(merged[1]["conditions"][0]["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(merged[1]["conditions"][1]["type"], "example.com/Policy");
    }
}
