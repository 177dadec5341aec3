//! Platforms: operating system, architecture, variant.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::ImageError;

/// A platform, with the names that images use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// For example `amd64`.
    pub architecture: String,
    /// For example `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// With the names that images use instead of others.
    fn normalized(mut self) -> Self {
        self.architecture = match self.architecture.as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            _ => self.architecture,
        };
        self.variant = self.variant.filter(|variant| !variant.is_empty());
        // What goes without saying.
        if matches!(
            (self.architecture.as_str(), self.variant.as_deref()),
            ("arm64", Some("v8")) | ("amd64", Some("v1"))
        ) {
            self.variant = None;
        }
        self
    }

    /// Whether something for this platform can be taken by who wants `wanted`.
    pub(super) fn serves(&self, wanted: &Self) -> bool {
        let own = self.clone().normalized();
        let wanted = wanted.clone().normalized();
        own.os == wanted.os && own.architecture == wanted.architecture && own.variant == wanted.variant
    }

    /// Whether it says nothing.
    pub(super) fn is_unknown(&self) -> bool {
        self.os.is_empty() && self.architecture.is_empty()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let parts: Vec<_> = text.split('/').map(str::to_owned).collect();
        let platform = match parts.as_slice() {
            [os, architecture] => Self { os: os.clone(), architecture: architecture.clone(), variant: None },
            [os, architecture, variant] => {
                Self { os: os.clone(), architecture: architecture.clone(), variant: Some(variant.clone()) }
            }
            _ => Self::default(),
        };
        if platform.os.is_empty() || platform.architecture.is_empty() {
            return Err(ImageError::Platform { text: text.to_owned() });
        }
        Ok(platform.normalized())
    }
}
