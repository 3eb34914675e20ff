//! Just enough of SIP to read what a well-behaved peer of a test sent.

/// A request or response as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The request line or status line.
    pub start: String,
    /// Names and values, in order.
    pub headers: Vec<(String, String)>,
    /// All that follows the blank line.
    pub body: String,
}

impl Message {
    /// Reads one message; `None` when there is no blank line or a header has no colon.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let headers = lines
            .map(|line| line.split_once(':').map(|(n, v)| (n.trim().into(), v.trim().into())))
            .collect::<Option<_>>()?;
        Some(Self { start, headers, body: body.to_owned() })
    }

    /// The method of a request.
    pub fn method(&self) -> Option<&str> {
        self.start.strip_suffix(" SIP/2.0")?.split(' ').next()
    }

    /// The Request-URI of a request.
    pub fn request_uri(&self) -> Option<&str> {
        self.start.strip_suffix(" SIP/2.0")?.split_once(' ').map(|(_, uri)| uri)
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The number in CSeq.
    pub fn cseq(&self) -> u32 {
        let cseq = self.header("CSeq").and_then(|value| value.split(' ').next());
        cseq.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no CSeq: {self:?}"))
    }

    /// A parameter of a header: the `tag` of `From: <sip:a@b>;tag=x`.
    pub fn parameter(&self, header: &str, name: &str) -> Option<&str> {
        let value = self.header(header)?;
        let parameters = value.rsplit_once('>').map_or(value, |(_, after)| after);
        parameters.split(';').find_map(|parameter| {
            let (key, value) = parameter.trim().split_once('=')?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The branch of the topmost Via: copies of one request share it.
    pub fn branch(&self) -> &str {
        self.parameter("Via", "branch").unwrap_or_else(|| panic!("no branch: {self:?}"))
    }

    /// The value of a line of a simple-message-summary body (RFC 3842 §5.2).
    pub fn summary_line(&self, name: &str) -> Option<&str> {
        self.body.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
