use super::*;

fn way(address: &str, is_in_kernel: bool, user: &[&str]) -> Way {
    let user: Vec<String> = user.iter().map(|why| (*why).to_owned()).collect();
    Way::new(address.parse().expect("an address"), "default/route".into(), is_in_kernel, &user)
}

#[test]
fn listeners_are_told_apart_where_they_differ() {
    let (kernel, other) = (way("0.0.0.0:1", true, &[]), way("0.0.0.0:2", true, &[]));
    let user = way("[::]:2", false, &["endpoint 127.0.0.1:5432 is on this machine"]);
    assert_eq!(message(&[("a", &kernel), ("b", &other)]), "Traffic is carried by the kernel");
    assert_eq!(
        message(&[("a", &kernel), ("b", &user)]),
        "Traffic of listener a is carried by the kernel. \
         Traffic of listener b is carried by user space: endpoint 127.0.0.1:5432 is on this machine"
    );
    assert_eq!(
        message(&[("b", &other), ("b", &user)]),
        "Traffic of listener b at 0.0.0.0:2 is carried by the kernel. \
         Traffic of listener b at [::]:2 is carried by user space: endpoint 127.0.0.1:5432 is on this machine"
    );
}

#[test]
fn a_part_is_said_to_be_one() {
    let mixed = way("0.0.0.0:1", true, &["a backendRef is invalid", "backend a/b:1 has no endpoint"]);
    assert_eq!(
        message(&[("a", &mixed)]),
        "Traffic is carried by the kernel, and a part by user space: a backendRef is invalid, backend a/b:1 has no endpoint"
    );
}

#[test]
fn a_thousand_endpoints_are_counted() {
    let user: Vec<String> = (0..1000).map(|i| format!("endpoint 127.0.{}.{}:1 is local", i / 256, i % 256)).collect();
    let way = Way::new("0.0.0.0:1".parse().expect("an address"), "default/route".into(), false, &user);
    assert!(way.load.user.ends_with("127.0.0.7:1 is local and 992 more"), "{}", way.load.user);
    let exact = Way::new(way.address, way.route.clone(), false, &user[..TOLD]);
    assert!(!exact.load.user.contains("more"), "{}", exact.load.user);
}
