//! `clusterIP`, `clusterIPs` and the address families of a Service.

use serde_json::Value;

use super::{address, structure::texts};
use crate::manifest::admit::{Fields, Judge};

/// What `clusterIP` says of a headless Service.
pub const HEADLESS: &str = "None";

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FAMILY_POLICIES: [&str; 3] = ["SingleStack", "PreferDualStack", "RequireDualStack"];

/// The fields about cluster addresses, and the rules between them; `type` is judged before.
pub fn cluster_addresses(fields: &mut Fields) {
    let external = fields.text("type") == Some("ExternalName");
    fields.optional("clusterIP", Judge::string);
    fields.optional("clusterIPs", |judge, node| {
        texts(judge, node, usize::MAX, |judge, node, text| {
            if !external && text != HEADLESS {
                address::ip(judge, node, text);
            }
        })
    });
    first(fields, external);
    fields
        .optional("ipFamilies", |judge, node| judge.set(node, usize::MAX, |judge, node| judge.choice(node, &FAMILIES)));
    fields.optional("ipFamilyPolicy", |judge, node| judge.choice(node, &FAMILY_POLICIES));
    match external {
        true => nowhere(fields),
        false => together(fields),
    }
}

/// Whether the only cluster address is `None`; `clusterIPs` is judged before.
pub fn headless(fields: &Fields) -> bool {
    fields.items("clusterIPs") == [HEADLESS]
}

/// `clusterIP` alone is `clusterIPs` with one item; the address in it is then judged here.
fn first(fields: &mut Fields, external: bool) {
    let Some(text) = fields.text("clusterIP").filter(|text| !text.is_empty()).map(str::to_owned) else { return };
    if !fields.items("clusterIPs").is_empty() {
        return;
    }
    fields.store("clusterIPs", Value::from(vec![text.clone()]));
    let node = fields.raw("clusterIP").expect("has a text, so it is written");
    if !external && text != HEADLESS {
        fields.judge().field("clusterIP", |judge| address::ip(judge, node, &text));
    }
}

/// An ExternalName has no address in the cluster.
fn nowhere(fields: &mut Fields) {
    for name in ["clusterIPs", "ipFamilies"] {
        if !fields.items(name).is_empty() {
            fields.conflict(name, "a Service of type ExternalName has no cluster addresses", "remove it");
        }
    }
    if fields.has("ipFamilyPolicy") {
        fields.conflict("ipFamilyPolicy", "a Service of type ExternalName has no cluster addresses", "remove it");
    }
}

fn together(fields: &mut Fields) {
    let addresses: Vec<String> =
        fields.items("clusterIPs").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let single = fields.text("clusterIP").unwrap_or_default();
    if addresses.first().map_or("", String::as_str) != single {
        let remedy = "write the same address first in clusterIPs and in clusterIP";
        fields.conflict("clusterIPs", "must begin with the address in clusterIP", remedy);
    }
    if addresses.len() > 1 && addresses.iter().any(|address| address == HEADLESS) {
        fields.conflict("clusterIPs", "None stands beside an address", "write None alone, or addresses only");
        return;
    }
    let is_v6 = |address: &String| address.contains(':');
    let both = addresses.iter().any(is_v6) && !addresses.iter().all(is_v6);
    if addresses.len() > 2 || addresses.len() == 2 && !both {
        fields.conflict("clusterIPs", "holds more than one address of a family", "keep one IPv4 and one IPv6 address");
    }
    let families = fields.items("ipFamilies").iter().map(|family| family == "IPv6");
    let differ = addresses.iter().map(is_v6).zip(families).any(|(address, family)| address != family);
    if differ && !headless(fields) {
        fields.conflict(
            "clusterIPs",
            "the families of the addresses are not those of ipFamilies",
            "put them in one order",
        );
    }
}
