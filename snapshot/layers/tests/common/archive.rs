//! Archives made byte by byte, so that they can be wrong in any way.

/// An archive that grows.
#[derive(Default, Clone)]
pub(crate) struct Archive(pub(crate) Vec<u8>);

/// A header that can still be changed; its checksum is set when it is added.
#[derive(Clone)]
pub(crate) struct Header(pub(crate) [u8; 512]);

impl Header {
    pub(crate) fn new(kind: u8, name: &str, size: u64) -> Self {
        let mut this = Self([0; 512]);
        this.put(0, name.as_bytes());
        this.put(100, b"0000644\0");
        this.put(108, b"0000000\0");
        this.put(116, b"0000000\0");
        this.put(124, format!("{size:011o}\0").as_bytes());
        this.put(136, b"00000000144\0");
        this.put(156, &[kind]);
        this.put(257, b"ustar\x0000");
        this
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn link(mut self, target: &str) -> Self {
        self.put(157, target.as_bytes());
        self
    }

    pub(crate) fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.put(108, format!("{uid:07o}\0").as_bytes()).put(116, format!("{gid:07o}\0").as_bytes());
        self
    }

    pub(crate) fn device(mut self, major: u32, minor: u32) -> Self {
        self.put(329, format!("{major:07o}\0").as_bytes()).put(337, format!("{minor:07o}\0").as_bytes());
        self
    }
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn header(mut self, header: &Header) -> Self {
        let mut block = header.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self
    }

    pub(crate) fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn entry(self, kind: u8, name: &str, content: &[u8]) -> Self {
        self.header(&Header::new(kind, name, content.len() as u64)).content(content)
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name, content.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(b'5', name, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.header(&Header::new(b'2', name, 0).link(target))
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.header(&Header::new(b'1', name, 0).link(target))
    }

    /// An extended header.
    pub(crate) fn pax(self, kind: u8, records: &[(&str, &[u8])]) -> Self {
        self.entry(kind, "pax", &records.concat_records())
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

trait Records {
    fn concat_records(&self) -> Vec<u8>;
}

impl Records for [(&str, &[u8])] {
    fn concat_records(&self) -> Vec<u8> {
        self.iter().flat_map(|(key, value)| record(key, value)).collect()
    }
}

/// One record with its length.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let length =
        (1..).find(|digits| (rest.len() + digits).to_string().len() == *digits).map(|digits| rest.len() + digits);
    [length.expect("a length").to_string().into_bytes(), rest].concat()
}
