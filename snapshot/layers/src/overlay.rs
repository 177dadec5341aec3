//! Names that overlayfs keeps for itself: what is under them is never seen through it.

/// All of them.
pub(crate) const PRIVATE: &[u8] = b"trusted.overlay.";
/// On a directory: nothing below it shows.
pub(crate) const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");
/// On a directory of an image layer: the layer has something in it, and no entry that describes it. What the layers below say of it counts.
/// overlayfs knows no such attribute and passes over it.
pub(crate) const UNLISTED: (&[u8], &[u8]) = (b"trusted.overlay.supermachine.unlisted", b"y");
