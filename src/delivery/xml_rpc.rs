//! XML-RPC: the call as Kamailio's pua_rpc documents it, and the answers of its module xmlrpc.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::Event;
use thiserror::Error;

/// The deepest elements that are read: a fault is 7 deep.
const MAX_DEPTH: usize = 32;

/// The longest text of one value, in bytes.
const MAX_TEXT: usize = 8192;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The members of the struct that was returned; none when something else was.
    Result(BTreeMap<String, String>),
    /// A fault.
    Fault { code: i64, message: String },
}

/// Why something is no answer.
#[derive(Debug, Error)]
pub(super) enum XmlError {
    #[error("no XML: {0}")]
    Syntax(#[from] quick_xml::Error),
    #[error("not UTF-8")]
    Encoding,
    #[error("it does not begin with methodResponse")]
    NotAnAnswer,
    #[error("it ends before its end")]
    Cut,
    #[error(
        "it is nested more than {MAX_DEPTH} deep, or a text in it is longer than {MAX_TEXT} bytes"
    )]
    TooMuch,
    #[error("it has the entity {0:?}, which is not XML's own")]
    Entity(String),
}

/// Writes a call all of whose parameters are strings.
///
/// A CR is written as a reference: a parser makes LF of every other (XML 1.0 §2.11).
pub(super) fn write_call(method: &str, params: &[&str]) -> String {
    let mut out = format!(
        "<?xml version=\"1.0\" ?>\n<methodCall>\n<methodName>{}</methodName>\n<params>\n",
        escape(method)
    );
    for param in params {
        let text = escape(*param).replace('\r', "&#xD;");
        out.push_str("<param><value><string>");
        out.push_str(&text);
        out.push_str("</string></value></param>\n");
    }
    out.push_str("</params>\n</methodCall>\n");
    out
}

/// Reads an answer: `methodResponse` with `params` or a `fault`.
pub(super) fn read_answer(body: &[u8]) -> Result<Answer, XmlError> {
    let text = std::str::from_utf8(body).map_err(|_| XmlError::Encoding)?;
    let mut reader = Reader::from_str(text);
    let mut found = Found::default();
    loop {
        match reader.read_event()? {
            Event::Start(start) => found.open(start.name().as_ref())?,
            Event::End(_) => found.close(),
            Event::Empty(start) => {
                found.open(start.name().as_ref())?;
                found.close();
            }
            Event::Text(text) => found.add(&text.xml10_content())?,
            Event::CData(text) => found.add(&text.xml10_content())?,
            Event::GeneralRef(name) => {
                let character = name.resolve_char_ref()?;
                match (character, resolve_predefined_entity(&name)) {
                    (Some(character), _) => found.add(character.encode_utf8(&mut [0; 4]))?,
                    (None, Some(text)) => found.add(text)?,
                    (None, None) => return Err(XmlError::Entity(super::cut(&name))),
                }
            }
            Event::Eof => return found.end(),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Found {
    /// The open elements, outermost first.
    path: Vec<String>,
    is_answer: bool,
    is_fault: bool,
    text: String,
    name: Option<String>,
    members: BTreeMap<String, String>,
}

impl Found {
    fn open(&mut self, name: &str) -> Result<(), XmlError> {
        let name = name.to_owned();
        if self.path.is_empty() {
            self.is_answer = name == "methodResponse";
        }
        if !self.is_answer {
            return Err(XmlError::NotAnAnswer);
        }
        if self.path.len() == MAX_DEPTH {
            return Err(XmlError::TooMuch);
        }
        self.is_fault |= name == "fault";
        self.path.push(name);
        self.text.clear();
        Ok(())
    }

    fn close(&mut self) {
        match self.path.pop().as_deref() {
            Some("name") => self.name = Some(self.text.trim().to_owned()),
            // The value of a member is one of these, or stands in <value> itself as a string.
            Some("string" | "int" | "i4" | "double" | "boolean" | "value") => {
                if let Some(name) = self.name.take() {
                    self.members.insert(name, std::mem::take(&mut self.text));
                }
            }
            _ => {}
        }
        self.text.clear();
    }

    fn add(&mut self, text: &str) -> Result<(), XmlError> {
        if self.text.len() + text.len() > MAX_TEXT {
            return Err(XmlError::TooMuch);
        }
        self.text.push_str(text);
        Ok(())
    }

    fn end(self) -> Result<Answer, XmlError> {
        if !self.path.is_empty() {
            return Err(XmlError::Cut);
        }
        if !self.is_answer {
            return Err(XmlError::NotAnAnswer);
        }
        if !self.is_fault {
            return Ok(Answer::Result(self.members));
        }
        let member = |name| self.members.get(name).map(|text| text.trim()).unwrap_or_default();
        let code = member("faultCode").parse().unwrap_or_default();
        Ok(Answer::Fault { code, message: super::cut(member("faultString")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The parameters of a call, as a parser sees them.
    fn params(call: &str) -> Vec<String> {
        let mut reader = Reader::from_str(call);
        let (mut params, mut text) = (Vec::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Start(_) => text.clear(),
                Event::Text(part) => text.push_str(&part.xml10_content()),
                Event::GeneralRef(name) => match name.resolve_char_ref().unwrap() {
                    Some(character) => text.push(character),
                    None => text.push_str(resolve_predefined_entity(&name).unwrap()),
                },
                Event::End(end) if end.name().as_ref() == "string" => {
                    params.push(std::mem::take(&mut text));
                }
                Event::Eof => return params,
                _ => {}
            }
        }
    }

    /// The example of Kamailio's own document. It was printed with two line breaks for each CRLF,
    /// which is how `double_lf_to_crlf` of the module xmlrpc reads them.
    const EXAMPLE: &str = include_str!("../../tests/fixtures/kamailio-pua_rpc-example.xml");

    #[test]
    fn a_call_means_what_the_example_of_kamailios_document_means() {
        let body = "Messages-Waiting: yes\r\nMessage-Account: sip:jh@vm.test.tutpro.com\r\n\
             Voice-Message: 2/0 (0/0)\r\n";
        let ours = [
            "sip:jh@test.tutpro.com",
            "7776000",
            "message-summary",
            "application/simple-message-summary",
            ".",
            "a.1481534683.13958.6.7",
            "sip:127.0.0.1:5080;transport=tcp",
            "P-Flags: 0\r\n",
            body,
        ];
        let call = write_call("pua.publish", &ours);
        assert!(call.contains("<methodName>pua.publish</methodName>"));
        assert!(!call.contains('\r'), "a parser would make LF of it");
        assert_eq!(params(&call), ours);
        let theirs: Vec<_> =
            params(EXAMPLE).iter().map(|param| param.replace("\n\n", "\r\n")).collect();
        assert_eq!(theirs, ours);
    }

    #[test]
    fn answers_and_faults_are_read() {
        let answer = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<methodResponse>\n<params>\n<param>\
            <value><struct>\n<member><name>SIP-ETag</name><value><string>a.1&amp;&#x32;</string></value></member>\
            <member><name>Expires</name>\n<value><i4>3601</i4></value></member><member><name>raw</name>\
            <value>text</value></member></struct></value></param></params></methodResponse>";
        let members = [("Expires", "3601"), ("SIP-ETag", "a.1&2"), ("raw", "text")];
        let members = members.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read_answer(answer.as_bytes()).unwrap(), Answer::Result(members.into()));
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name>\
            <value><i4>500</i4></value></member><member><name>faultString</name>\
            <value><string>Wrong ETag</string></value></member></struct></value></fault></methodResponse>";
        let wrong = Answer::Fault { code: 500, message: "Wrong ETag".into() };
        assert_eq!(read_answer(fault.as_bytes()).unwrap(), wrong);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let deep = format!("<methodResponse>{}", "<a>".repeat(100));
        let long = format!("<methodResponse>{}</methodResponse>", "a".repeat(9000));
        for text in [
            "",
            "500 Internal Server Error",
            "<html><body>no</body></html>",
            "<methodResponse><params>",
            "<methodResponse></params></methodResponse>",
            "<methodResponse>&lol9;</methodResponse>",
            &deep,
            &long,
        ] {
            assert!(read_answer(text.as_bytes()).is_err(), "{text}");
        }
        assert!(matches!(read_answer(b"<methodResponse>\xff"), Err(XmlError::Encoding)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(param in "[\\t\\n\\r -~é€😀]{0,60}") {
            prop_assert_eq!(params(&write_call("m", &[&param])), [param]);
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_answer(&body);
            let _ = read_answer(&[b"<methodResponse>", &body[..]].concat());
        }
    }
}
