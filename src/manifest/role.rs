//! Who may declare what? Roles from the file system: what RBAC decides by the user of a request is decided here by the
//! owner and the group of a file.
//!
//! [`custody`] says, purely, who can have decided what a file says and that it stands where it stands; [`way`] asks the
//! file system; [`name`] turns numbers into the names that bindings have; [`roles`] knows the roles in force;
//! [`judge`](mod@judge) takes out of the files what their writers may not declare. `docs/roles.md` has the rules in prose.

pub mod custody;
pub mod judge;
pub mod name;
pub mod refusal;
pub mod remark;
pub mod roles;
pub mod way;

pub use custody::Custody;
pub use judge::{Judged, judge};
pub use name::Names;
pub use roles::{Roles, Who};
