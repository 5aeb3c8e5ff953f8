//! `#[cfg(...)]`: which code is there when nothing is tested.

use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// Whether some build that is no test, with whatever features on whatever system, has what bears these attributes.
pub(crate) fn outside_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).all(|attribute| {
        attribute.parse_args::<Meta>().map_or(true, |condition| Chance::of(&condition).holds)
    })
}

/// Whether a condition can hold, and whether it can fail, outside of tests.
struct Chance {
    holds: bool,
    fails: bool,
}

impl Chance {
    fn of(condition: &Meta) -> Self {
        let parts = || -> Vec<Chance> {
            let Meta::List(list) = condition else { return Vec::new() };
            let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            parts.map(|parts| parts.iter().map(Self::of).collect()).unwrap_or_default()
        };
        let path = condition.path();
        if path.is_ident("test") || path.is_ident("doctest") {
            Self { holds: false, fails: true }
        } else if path.is_ident("not") {
            let of_all = Self::all(&parts());
            Self { holds: of_all.fails, fails: of_all.holds }
        } else if path.is_ident("all") {
            Self::all(&parts())
        } else if path.is_ident("any") {
            let parts = parts();
            Self { holds: parts.iter().any(|part| part.holds), fails: parts.iter().all(|part| part.fails) }
        } else {
            Self { holds: true, fails: true }
        }
    }

    fn all(parts: &[Self]) -> Self {
        Self { holds: parts.iter().all(|part| part.holds), fails: parts.iter().any(|part| part.fails) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(attribute: &str) -> bool {
        let item: syn::ItemStruct = syn::parse_str(&format!("{attribute} struct S;")).unwrap();
        outside_tests(&item.attrs)
    }

    #[test]
    fn only_what_needs_a_test_is_left_out() {
        for there in [
            "",
            "#[cfg(feature = \"tls\")]",
            "#[cfg(not(test))]",
            "#[cfg(any(test, unix))]",
            "#[cfg(not(all(test, unix)))]",
            "#[cfg_attr(unix, cfg(test))]",
        ] {
            assert!(outside(there), "{there}");
        }
        for not_there in
            ["#[cfg(test)]", "#[cfg(doctest)]", "#[cfg(all(test, unix))]", "#[cfg(not(not(test)))]"]
        {
            assert!(!outside(not_there), "{not_there}");
        }
    }
}
