//! The pages of GatewayClass and Gateway.

use serde_json::Value;

use super::{Page, complaints, conditions, pairs, route::parent_lines};
use crate::{
    api::Kind,
    cli::{column::number, table::Table},
    view::{Description, kind_of, list, parent_target, text},
};

pub(super) fn describe_class(page: &mut Page, description: &Description) {
    let class = &description.object;
    page.field("Controller", text(class, "/spec/controllerName"));
    page.field("Description", text(class, "/spec/description"));
    page.conditions(conditions(class));
    let features = list(class, "/status/supportedFeatures").iter();
    page.section("Features", &features.map(|feature| text(feature, "/name").to_owned()).collect::<Vec<_>>());
    page.section("Gateways", &description.related.iter().map(|gateway| full_name(gateway)).collect::<Vec<_>>());
}

pub(super) fn describe_gateway(page: &mut Page, description: &Description) {
    let gateway = &description.object;
    page.field("Class", text(gateway, "/spec/gatewayClassName"));
    let addresses = list(gateway, "/status/addresses").iter();
    page.field_lines("Addresses", &addresses.map(|address| text(address, "/value").to_owned()).collect::<Vec<_>>());
    let service = description.related.iter().find(|other| kind_of(other) == Some(Kind::Service));
    page.field("Service", service.map_or("", |service| text(service, "/metadata/name")));
    let annotations = pairs(gateway, "/spec/infrastructure/annotations", ": ");
    if !annotations.is_empty() {
        page.field_lines("Passed on", &annotations);
    }
    page.conditions(conditions(gateway));
    page.table("Listeners", listeners(gateway));
    page.section("Routes", &routes(description));
}

fn listeners(gateway: &Value) -> Table {
    let mut table = Table::new(["NAME", "PROTOCOL", "PORT", "HOSTNAME", "ROUTES", "PROGRAMMED", "WHY NOT"]);
    for listener in list(gateway, "/spec/listeners") {
        let name = text(listener, "/name");
        let status = list(gateway, "/status/listeners").iter().find(|status| text(status, "/name") == name);
        let conditions = status.map_or(&[][..], |status| list(status, "/conditions"));
        let programmed = conditions.iter().find(|condition| text(condition, "/type") == "Programmed");
        let hostname = listener.get("hostname").and_then(Value::as_str).filter(|name| !name.is_empty());
        table.row([
            name.to_owned(),
            text(listener, "/protocol").to_owned(),
            number(listener, "/port").to_string(),
            hostname.unwrap_or("*").to_owned(),
            status.map_or("0".to_owned(), |status| number(status, "/attachedRoutes").to_string()),
            programmed.map_or("Unknown", |condition| text(condition, "/status")).to_owned(),
            complaints(conditions).join("; "),
        ]);
    }
    table
}

/// Each route that names the Gateway, and whether it was taken.
fn routes(description: &Description) -> Vec<String> {
    let gateway = &description.object;
    let routes = description.related.iter().filter(|other| kind_of(other).is_some_and(Kind::is_route));
    let names_gateway = |parent: &Value, route: &Value| {
        let (_, kind, namespace, name) = parent_target(parent, route);
        (kind, namespace, name) == ("Gateway", text(gateway, "/metadata/namespace"), text(gateway, "/metadata/name"))
    };
    let lines = routes.flat_map(|route| {
        let verdicts = parent_lines(route, |parent| names_gateway(parent, route));
        verdicts.into_iter().map(move |(section, verdict)| match section.as_str() {
            "" => format!("{} {}: {verdict}", text(route, "/kind"), full_name(route)),
            _ => format!("{} {} at {section}: {verdict}", text(route, "/kind"), full_name(route)),
        })
    });
    lines.collect()
}

/// `namespace/name`.
fn full_name(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}
