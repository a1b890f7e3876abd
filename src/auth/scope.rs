//! Scopes of API keys.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;

use super::KeyError;

/// A permission of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Ingest events and merge users.
    Write,
    /// Get recommendations.
    Read,
    /// Read and change the catalog, placements and rules, and read reports.
    Items,
    /// Export and erase a user's data, and manage consent.
    Users,
    /// Sign user tokens, each of which gets the recommendations of one user. A key with only this
    /// scope can send no request itself.
    #[serde(rename = "read-own")]
    ReadOwn,
    /// Read the metrics on the admin endpoint.
    Metrics,
    /// Use the whole admin endpoint.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Self; 7] =
        [Self::Write, Self::Read, Self::Items, Self::Users, Self::ReadOwn, Self::Metrics, Self::Admin];

    /// The scope's name in key files and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Items => "items",
            Self::Users => "users",
            Self::ReadOwn => "read-own",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }

    /// The names of all scopes, separated by commas.
    fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// Whether the scope belongs to the public API; all others belong to the admin endpoint.
    #[must_use]
    pub const fn is_public(self) -> bool {
        !matches!(self, Self::Metrics | Self::Admin)
    }
}

impl Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == name)
            .ok_or_else(|| KeyError::UnknownScope { name: name.to_owned(), known: Self::names() })
    }
}

/// A non-empty set of scopes, sorted and without duplicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Creates a set of scopes.
    ///
    /// # Errors
    /// [`KeyError::EmptyScopes`] if the list is empty.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, KeyError> {
        let mut scopes: Vec<_> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        if scopes.is_empty() { Err(KeyError::EmptyScopes { known: Scope::names() }) } else { Ok(Self(scopes)) }
    }

    /// Whether the scopes grant access to `scope`. The scope `admin` includes `metrics`.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.0.contains(&scope) || scope == Scope::Metrics && self.0.contains(&Scope::Admin)
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = KeyError;

    fn try_from(scopes: Vec<Scope>) -> Result<Self, KeyError> {
        Self::new(scopes)
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

impl FromStr for Scopes {
    type Err = KeyError;

    fn from_str(names: &str) -> Result<Self, KeyError> {
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        Self::new(names.map(str::parse).collect::<Result<Vec<_>, _>>()?)
    }
}

impl Display for Scopes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::as_str).collect();
        out.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_parse_and_serialise_as_names() {
        let scopes: Scopes = " read, write,read".parse().unwrap();
        assert_eq!(scopes.to_string(), "write,read");
        assert_eq!(serde_json::to_string(&scopes).unwrap(), r#"["write","read"]"#);
        assert!(scopes.allows(Scope::Read) && !scopes.allows(Scope::Items));
        assert!(serde_json::from_str::<Scopes>("[]").is_err());
        let message = "write,all".parse::<Scopes>().unwrap_err().to_string();
        assert_eq!(
            message,
            r#"unknown scope "all"; known scopes: write, read, items, users, read-own, metrics, admin"#
        );
        for scope in Scope::ALL {
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
        }
    }

    #[test]
    fn admin_scope_grants_no_public_scope() {
        let admin = Scopes::new([Scope::Admin]).unwrap();
        assert!(admin.allows(Scope::Admin) && admin.allows(Scope::Metrics));
        assert!(Scope::ALL.into_iter().filter(|scope| scope.is_public()).all(|scope| !admin.allows(scope)));
        assert!(!Scopes::new([Scope::Metrics]).unwrap().allows(Scope::Admin));
    }
}
