//! Every cell of owner, group, mode, link and directory.

use super::*;

const ROOT: u32 = 0;
const DAEMON: u32 = 900;
const ALICE: u32 = 1001;
const BOB: u32 = 1002;
const DEVELOPERS: u32 = 2000;
const STAFF: u32 = 2001;

fn step(kind: u32, mode: u32, owner: u32, group: u32) -> Inode {
    Inode { owner, group, mode: kind | mode, list: false }
}

fn directory(mode: u32, owner: u32, group: u32) -> Inode {
    step(DIRECTORY, mode, owner, group)
}

fn file(mode: u32, owner: u32, group: u32) -> Inode {
    step(0o100_000, mode, owner, group)
}

fn link(owner: u32, group: u32) -> Inode {
    step(LINK, 0o777, owner, group)
}

fn listed(inode: Inode) -> Inode {
    Inode { list: true, ..inode }
}

fn owner(user: u32, group: u32) -> Hand {
    Hand::Owner { user, group }
}

fn member(group: u32, owner: u32) -> Hand {
    Hand::Member { group, owner }
}

/// None where everybody can have had a hand in it.
fn hands(trail: &[Inode]) -> Option<Vec<Hand>> {
    let custody = custody(trail, [ROOT, DAEMON]);
    custody.open.is_none().then(|| custody.hands.into_keys().collect())
}

#[test]
fn what_a_file_says() {
    let root = directory(0o755, ROOT, ROOT);
    let alice = owner(ALICE, DEVELOPERS);
    for (file, expected) in [
        (file(0o644, ROOT, ROOT), Some(vec![])),
        (file(0o644, DAEMON, DAEMON), Some(vec![])),
        (file(0o600, ROOT, DEVELOPERS), Some(vec![])),
        // Group root has root's trust; another group has its own rights, even in a file of root's.
        (file(0o664, ROOT, ROOT), Some(vec![])),
        (file(0o664, ROOT, DEVELOPERS), Some(vec![member(DEVELOPERS, ROOT)])),
        (file(0o620, ROOT, DEVELOPERS), Some(vec![member(DEVELOPERS, ROOT)])),
        (file(0o666, ROOT, ROOT), None),
        (file(0o602, ROOT, ROOT), None),
        (file(0o644, ALICE, DEVELOPERS), Some(vec![alice])),
        (file(0o400, ALICE, DEVELOPERS), Some(vec![alice])),
        (file(0o664, ALICE, DEVELOPERS), Some(vec![alice, member(DEVELOPERS, ALICE)])),
        (file(0o646, ALICE, DEVELOPERS), None),
        // That a file is of group root makes its owner no root.
        (file(0o644, ALICE, ROOT), Some(vec![owner(ALICE, ROOT)])),
        (file(0o664, ALICE, ROOT), Some(vec![owner(ALICE, ROOT)])),
        // Set-id and execute bits say nothing.
        (file(0o4755, ALICE, DEVELOPERS), Some(vec![alice])),
        // With an access control list the group's bits are its mask.
        (listed(file(0o664, ROOT, ROOT)), None),
        (listed(file(0o644, ROOT, ROOT)), Some(vec![])),
    ] {
        assert_eq!(hands(&[root, file]), expected, "{file:?}");
    }
}

#[test]
fn where_a_file_stands() {
    let roots = file(0o644, ROOT, ROOT);
    let alices = file(0o644, ALICE, DEVELOPERS);
    let alice = owner(ALICE, DEVELOPERS);
    for (directory, of_root, of_alice) in [
        (directory(0o755, ROOT, ROOT), Some(vec![]), Some(vec![alice])),
        (directory(0o755, DAEMON, STAFF), Some(vec![]), Some(vec![alice])),
        (directory(0o775, ROOT, ROOT), Some(vec![]), Some(vec![alice])),
        // In her own directory she has put her own files; a file of root's is there by her doing.
        (directory(0o755, ALICE, STAFF), Some(vec![owner(ALICE, STAFF)]), Some(vec![alice])),
        (directory(0o755, BOB, STAFF), Some(vec![owner(BOB, STAFF)]), Some(vec![alice, owner(BOB, STAFF)])),
        (directory(0o775, ROOT, STAFF), Some(vec![member(STAFF, ROOT)]), Some(vec![alice, member(STAFF, ROOT)])),
        (directory(0o2775, ROOT, STAFF), Some(vec![member(STAFF, ROOT)]), Some(vec![alice, member(STAFF, ROOT)])),
        // The sticky bit keeps nobody from linking another's file.
        (directory(0o1775, ROOT, STAFF), Some(vec![member(STAFF, ROOT)]), Some(vec![alice, member(STAFF, ROOT)])),
        (directory(0o777, ROOT, ROOT), None, None),
        (directory(0o1777, ROOT, ROOT), None, None),
        (listed(directory(0o775, ROOT, ROOT)), None, None),
    ] {
        assert_eq!(hands(&[directory, roots]), of_root, "root's file in {directory:?}");
        assert_eq!(hands(&[directory, alices]), of_alice, "alice's file in {directory:?}");
        // One more directory of root's above or below does not help.
        let above = super::custody(&[directory, self::directory(0o755, ROOT, ROOT), roots], [ROOT, DAEMON]);
        let sticky = directory.mode & STICKY != 0;
        let expected = if sticky { Some(vec![]) } else { of_root };
        assert_eq!(above.open.is_none().then(|| above.hands.into_keys().collect()), expected, "below {directory:?}");
    }
}

#[test]
fn links() {
    let root = directory(0o755, ROOT, ROOT);
    let bobs = directory(0o755, BOB, STAFF);
    let (roots, alices) = (file(0o644, ROOT, ROOT), file(0o644, ALICE, DEVELOPERS));
    let (alice, bob) = (owner(ALICE, DEVELOPERS), owner(BOB, STAFF));
    for (trail, expected) in [
        // By root, to a file of anybody's: that file's own rights.
        (vec![root, link(ROOT, ROOT), root, roots], Some(vec![])),
        (vec![root, link(ROOT, ROOT), root, alices], Some(vec![alice])),
        (vec![root, link(ROOT, ROOT), root, file(0o666, ROOT, ROOT)], None),
        // To where bob can put something else.
        (vec![root, link(ROOT, ROOT), root, bobs, roots], Some(vec![bob])),
        (vec![root, link(ROOT, ROOT), root, directory(0o1777, ROOT, ROOT), roots], None),
        (vec![root, link(ROOT, ROOT), root, directory(0o1777, ROOT, ROOT), root, roots], Some(vec![])),
        // By bob, to what is another's.
        (vec![root, bobs, link(BOB, STAFF), root, roots], Some(vec![bob])),
        (vec![root, bobs, link(BOB, STAFF), root, alices], Some(vec![alice, bob])),
        (vec![root, link(BOB, STAFF), root, roots], Some(vec![bob])),
        (vec![root, link(BOB, STAFF), root, root, alices], Some(vec![alice, bob])),
        // By alice, to her own; to bob's.
        (vec![root, link(ALICE, STAFF), root, alices], Some(vec![alice])),
        (vec![root, link(ALICE, STAFF), bobs, file(0o644, BOB, STAFF)], Some(vec![owner(ALICE, STAFF), bob])),
        // By root within what is bob's: bob can make another.
        (vec![root, bobs, link(ROOT, ROOT), root, roots], Some(vec![bob])),
        // A link to a link.
        (vec![root, link(ROOT, ROOT), root, link(BOB, STAFF), root, roots], Some(vec![bob])),
    ] {
        let mut expected = expected;
        expected.iter_mut().for_each(|hands| hands.sort());
        assert_eq!(hands(&trail), expected, "{trail:?}");
    }
}

#[test]
fn more_hands_never_give_more() {
    let mut all = Custody::default();
    let trails = [
        vec![directory(0o755, ROOT, ROOT), file(0o644, ROOT, ROOT)],
        vec![directory(0o755, BOB, STAFF), file(0o644, ROOT, ROOT)],
        vec![directory(0o755, BOB, STAFF), file(0o664, ALICE, DEVELOPERS)],
        vec![directory(0o777, BOB, STAFF), file(0o644, ROOT, ROOT)],
    ];
    for trail in trails {
        let one = custody(&trail, [ROOT, DAEMON]);
        assert!(one.is_within(&one));
        let before = all.clone();
        all.add(&one);
        assert!(before.is_within(&all) && one.is_within(&all), "{trail:?}");
    }
    assert!(!all.is_within(&Custody::default()));
}
