//! Names of containers, checked before anything is touched.

use std::fmt;

/// Longest id, bytes: it names a directory.
const LEN_MAX: usize = 255;

/// Name of a container: a single, harmless path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

/// A name that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing.
    #[error("container id cannot be empty")]
    Empty,
    /// Too much.
    #[error("container id has {0} bytes, {LEN_MAX} is the limit")]
    TooLong(usize),
    /// Other characters than letters, digits and `_+-.`, or no name of its own.
    #[error("invalid container ID format")]
    Format,
}

impl Id {
    /// Checks a name.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn new(name: &str) -> Result<Self, IdError> {
        let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        match name {
            "" => Err(IdError::Empty),
            _ if name.len() > LEN_MAX => Err(IdError::TooLong(name.len())),
            "." | ".." => Err(IdError::Format),
            _ if !name.bytes().all(harmless) => Err(IdError::Format),
            _ => Ok(Self(name.to_owned())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_names_pass() {
        for name in ["a", "0", "web-1.2_x+y", "..a", ".hidden", &"x".repeat(255)] {
            assert_eq!(Id::new(name).map(|id| id.to_string()), Ok(name.to_owned()));
        }
        for name in [".", "..", "a/b", "/", "a b", "a\n", "a\0", "ü", "a:b", "*"] {
            assert_eq!(Id::new(name), Err(IdError::Format), "{name:?}");
        }
        assert_eq!(Id::new(""), Err(IdError::Empty));
        assert_eq!(Id::new(&"x".repeat(1025)), Err(IdError::TooLong(1025)));
    }
}
