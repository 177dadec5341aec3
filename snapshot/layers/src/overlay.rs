//! Names that overlayfs keeps for itself: what is under them is never seen through it.

/// All of them.
pub(crate) const PRIVATE: &[u8] = b"trusted.overlay.";
/// On a directory: nothing below it shows.
pub(crate) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");
/// On a directory of an image layer: the layer has something in it, and no entry that describes it. What the layers below say of it counts.
/// overlayfs knows no such attribute and passes over it.
pub(crate) const UNLISTED: (&[u8], &[u8]) = (b"trusted.overlay.supermachine.unlisted", b"y");
/// What an overlay writes to a layer that cannot simply be laid over others elsewhere: the content of a file, or what a directory
/// was before it was renamed, is in another place of the layers below.
pub(crate) const ELSEWHERE: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];
