//! The extensions of tus 1.0, and the set that an operator enables.

use http::HeaderValue;

/// An extension of tus 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Uploads can be created by `POST`.
    Creation,
    /// A creation may carry content.
    CreationWithUpload,
    /// A creation need not declare the length.
    CreationDeferLength,
    /// Responses report when incomplete uploads expire.
    Expiration,
    /// The content of a request can be verified.
    Checksum,
    /// The checksum may be in the trailer section.
    ChecksumTrailer,
    /// Uploads can be cancelled by `DELETE`.
    Termination,
    /// Uploads can be concatenated.
    Concatenation,
    /// Incomplete uploads can be concatenated.
    ConcatenationUnfinished,
}

impl Extension {
    /// All extensions, in the order in which `Tus-Extension` lists them.
    pub const ALL: [Self; 9] = [
        Self::Creation,
        Self::CreationWithUpload,
        Self::CreationDeferLength,
        Self::Expiration,
        Self::Checksum,
        Self::ChecksumTrailer,
        Self::Termination,
        Self::Concatenation,
        Self::ConcatenationUnfinished,
    ];

    /// Returns the name in `Tus-Extension`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creation => "creation",
            Self::CreationWithUpload => "creation-with-upload",
            Self::CreationDeferLength => "creation-defer-length",
            Self::Expiration => "expiration",
            Self::Checksum => "checksum",
            Self::ChecksumTrailer => "checksum-trailer",
            Self::Termination => "termination",
            Self::Concatenation => "concatenation",
            Self::ConcatenationUnfinished => "concatenation-unfinished",
        }
    }

    /// Returns the extension with a name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.name() == name)
    }

    const fn base(self) -> Option<Self> {
        match self {
            Self::CreationWithUpload | Self::CreationDeferLength | Self::Concatenation => {
                Some(Self::Creation)
            }
            Self::ChecksumTrailer => Some(Self::Checksum),
            Self::ConcatenationUnfinished => Some(Self::Concatenation),
            Self::Creation | Self::Expiration | Self::Checksum | Self::Termination => None,
        }
    }
}

/// A set of extensions; by default all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    disabled: u16,
}

impl Extensions {
    /// All extensions.
    pub const ALL: Self = Self { disabled: 0 };

    /// Returns the set without an extension, and without those that require it.
    pub fn without(self, extension: Extension) -> Self {
        Self { disabled: self.disabled | 1 << extension as u16 }
    }

    /// Returns whether the set contains an extension.
    pub fn has(self, extension: Extension) -> bool {
        self.disabled & 1 << extension as u16 == 0 && extension.base().is_none_or(|base| self.has(base))
    }

    /// Returns the names, separated by commas; `None` if the set is empty.
    pub(super) fn names(self) -> Option<HeaderValue> {
        let names = Extension::ALL.into_iter().filter(|extension| self.has(*extension)).map(Extension::name);
        let names = names.collect::<Vec<_>>().join(",");
        (!names.is_empty()).then(|| HeaderValue::try_from(names).expect("names are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: TUS1-HDR-05
    #[test]
    fn disabling_an_extension_disables_those_that_require_it() {
        let all = "creation,creation-with-upload,creation-defer-length,expiration,checksum,checksum-trailer,termination,\
                   concatenation,concatenation-unfinished";
        assert_eq!(Extensions::ALL.names().expect("some"), all);
        let fewer = Extensions::ALL.without(Extension::Checksum).without(Extension::Concatenation);
        let left = "creation,creation-with-upload,creation-defer-length,expiration,termination";
        assert_eq!(fewer.names().expect("some"), left);
        let none = Extension::ALL.into_iter().fold(Extensions::ALL, Extensions::without);
        assert_eq!(none.names(), None);
        assert_eq!(
            Extensions::ALL.without(Extension::Creation).names().expect("some"),
            "expiration,checksum,checksum-trailer,termination"
        );
        for extension in Extension::ALL {
            assert_eq!(Extension::of_name(extension.name()), Some(extension));
        }
    }
}
