//! Registry of every condition type and reason that gapi writes, in the spec's own words; types of gapi's own have its
//! domain before them, as the spec wants it.
//!
//! Status is made of these constants alone; a golden case holds each of them.

use super::Condition;

/// What a condition stands on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// `GatewayClass.status.conditions`.
    Class,
    /// `Gateway.status.conditions`.
    Gateway,
    /// `Gateway.status.listeners[].conditions`.
    Listener,
    /// `status.parents[].conditions` of a route.
    Route,
}

/// One verdict that gapi can give: subject, condition type, status and reason.
#[derive(Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Reason {
    /// What it is said of.
    pub subject: Subject,
    /// Condition type.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// The reason itself.
    pub name: &'static str,
}

impl Reason {
    /// The condition with this verdict. `observedGeneration` and `lastTransitionTime` are put in by *report*.
    pub fn with(&self, message: impl Into<String>) -> Condition {
        Condition {
            type_: self.condition.into(),
            status: self.status.into(),
            observed_generation: None,
            last_transition_time: String::new(),
            reason: self.name.into(),
            message: message.into(),
        }
    }
}

/// True where gapi itself writes conditions of this type on `subject`; all others belong to other controllers.
pub fn is_ours(subject: Subject, condition: &str) -> bool {
    REASONS.iter().any(|reason| reason.subject == subject && reason.condition == condition)
}

macro_rules! reasons {
    ($($constant:ident = $subject:ident $condition:literal $status:literal $name:literal;)*) => {
        $(
            #[doc = concat!("`", $condition, "` ", $status, " `", $name, "`.")]
            pub const $constant: &Reason =
                &Reason { subject: Subject::$subject, condition: $condition, status: $status, name: $name };
        )*
        /// Every reason that gapi writes.
        pub const REASONS: &[&Reason] = &[$($constant),*];
    };
}

reasons! {
    CLASS_ACCEPTED = Class "Accepted" "True" "Accepted";
    CLASS_INVALID_PARAMETERS = Class "Accepted" "False" "InvalidParameters";
    CLASS_SUPPORTED_VERSION = Class "SupportedVersion" "True" "SupportedVersion";

    GATEWAY_ACCEPTED = Gateway "Accepted" "True" "Accepted";
    GATEWAY_ACCEPTED_IN_PART = Gateway "Accepted" "True" "ListenersNotValid";
    GATEWAY_LISTENERS_NOT_VALID = Gateway "Accepted" "False" "ListenersNotValid";
    GATEWAY_INVALID_PARAMETERS = Gateway "Accepted" "False" "InvalidParameters";
    GATEWAY_UNSUPPORTED_ADDRESS = Gateway "Accepted" "False" "UnsupportedAddress";
    GATEWAY_UNSUPPORTED_VALUE = Gateway "Accepted" "True" "UnsupportedValue";
    GATEWAY_PROGRAMMED = Gateway "Programmed" "True" "Programmed";
    GATEWAY_INVALID = Gateway "Programmed" "False" "Invalid";
    GATEWAY_NOT_BOUND = Gateway "Programmed" "False" "Pending";
    GATEWAY_PENDING = Gateway "Programmed" "Unknown" "Pending";
    GATEWAY_ADDRESS_NOT_ASSIGNED = Gateway "Programmed" "False" "AddressNotAssigned";
    GATEWAY_ADDRESS_NOT_USABLE = Gateway "Programmed" "False" "AddressNotUsable";
    GATEWAY_ADDRESSES_ASSIGNED = Gateway "AddressesAssigned" "True" "AddressesAssigned";
    GATEWAY_PARTIALLY_ASSIGNED = Gateway "AddressesAssigned" "False" "PartiallyAssigned";
    GATEWAY_NOT_ASSIGNED = Gateway "AddressesAssigned" "False" "NotAssigned";
    GATEWAY_RESOLVED_REFS = Gateway "ResolvedRefs" "True" "ResolvedRefs";
    GATEWAY_LISTENERS_NOT_RESOLVED = Gateway "ResolvedRefs" "False" "ListenersNotResolved";
    GATEWAY_INVALID_CLIENT_CERTIFICATE_REF = Gateway "ResolvedRefs" "False" "InvalidClientCertificateRef";
    GATEWAY_REF_NOT_PERMITTED = Gateway "ResolvedRefs" "False" "RefNotPermitted";

    LISTENER_ACCEPTED = Listener "Accepted" "True" "Accepted";
    LISTENER_HOSTNAME_CONFLICT = Listener "Accepted" "False" "HostnameConflict";
    LISTENER_PORT_UNAVAILABLE = Listener "Accepted" "False" "PortUnavailable";
    LISTENER_PROTOCOL_CONFLICT = Listener "Accepted" "False" "ProtocolConflict";
    LISTENER_UNSUPPORTED_PROTOCOL = Listener "Accepted" "False" "UnsupportedProtocol";
    LISTENER_UNSUPPORTED_VALUE = Listener "Accepted" "False" "UnsupportedValue";
    LISTENER_PROGRAMMED = Listener "Programmed" "True" "Programmed";
    LISTENER_INVALID = Listener "Programmed" "False" "Invalid";
    LISTENER_NOT_PROGRAMMED_HOSTNAME_CONFLICT = Listener "Programmed" "False" "HostnameConflict";
    LISTENER_NOT_PROGRAMMED_PROTOCOL_CONFLICT = Listener "Programmed" "False" "ProtocolConflict";
    LISTENER_NOT_BOUND = Listener "Programmed" "False" "Pending";
    LISTENER_PENDING = Listener "Programmed" "Unknown" "Pending";
    LISTENER_RESOLVED_REFS = Listener "ResolvedRefs" "True" "ResolvedRefs";
    LISTENER_INVALID_CERTIFICATE_REF = Listener "ResolvedRefs" "False" "InvalidCertificateRef";
    LISTENER_INVALID_ROUTE_KINDS = Listener "ResolvedRefs" "False" "InvalidRouteKinds";
    LISTENER_REF_NOT_PERMITTED = Listener "ResolvedRefs" "False" "RefNotPermitted";
    LISTENER_NO_CONFLICTS = Listener "Conflicted" "False" "NoConflicts";
    LISTENER_CONFLICTED_HOSTNAME = Listener "Conflicted" "True" "HostnameConflict";
    LISTENER_CONFLICTED_PROTOCOL = Listener "Conflicted" "True" "ProtocolConflict";
    LISTENER_OVERLAPPING_HOSTNAMES = Listener "OverlappingTLSConfig" "True" "OverlappingHostnames";

    ROUTE_ACCEPTED = Route "Accepted" "True" "Accepted";
    ROUTE_HOSTNAME_CONFLICT = Route "Accepted" "False" "HostnameConflict";
    ROUTE_INCOMPATIBLE_FILTERS = Route "Accepted" "False" "IncompatibleFilters";
    ROUTE_NOT_ALLOWED_BY_LISTENERS = Route "Accepted" "False" "NotAllowedByListeners";
    ROUTE_NO_MATCHING_LISTENER_HOSTNAME = Route "Accepted" "False" "NoMatchingListenerHostname";
    ROUTE_NO_MATCHING_PARENT = Route "Accepted" "False" "NoMatchingParent";
    ROUTE_UNSUPPORTED_VALUE = Route "Accepted" "False" "UnsupportedValue";
    ROUTE_RESOLVED_REFS = Route "ResolvedRefs" "True" "ResolvedRefs";
    ROUTE_BACKEND_NOT_FOUND = Route "ResolvedRefs" "False" "BackendNotFound";
    ROUTE_INVALID_KIND = Route "ResolvedRefs" "False" "InvalidKind";
    ROUTE_REF_NOT_PERMITTED = Route "ResolvedRefs" "False" "RefNotPermitted";
    ROUTE_UNSUPPORTED_PROTOCOL = Route "ResolvedRefs" "False" "UnsupportedProtocol";
    ROUTE_PARTIALLY_INVALID = Route "PartiallyInvalid" "True" "UnsupportedValue";
    ROUTE_PARTIALLY_INCOMPATIBLE = Route "PartiallyInvalid" "True" "IncompatibleFilters";
    ROUTE_IN_KERNEL = Route "gapi.dev/KernelPath" "True" "Kernel";
    ROUTE_IN_KERNEL_AND_USER_SPACE = Route "gapi.dev/KernelPath" "True" "KernelAndUserSpace";
    ROUTE_IN_USER_SPACE = Route "gapi.dev/KernelPath" "False" "UserSpace";
}
