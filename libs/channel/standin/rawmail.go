package standin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"strconv"
	"strings"
	"time"
)

// RawMailHeader is the header of a mail that its host posts as it is: X-Tributary-Signature is the HMAC-SHA256, under the
// secret, of the time as X-Tributary-Timestamp has it, a full stop, and the mail.
func RawMailHeader(secret string, mail []byte, at time.Time) http.Header {
	timestamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(timestamp + "."))
	mac.Write(mail)
	return http.Header{
		"Content-Type": {"message/rfc822"}, "X-Tributary-Timestamp": {timestamp}, "X-Tributary-Signature": {"sha256=" + hex.EncodeToString(mac.Sum(nil))},
	}
}

// Letter is what a mail says, as the standard library reads it.
type Letter struct {
	Header mail.Header
	// Text of its text/plain part, its lines ended by a line feed.
	Text  string
	Files []LetterFile
}

// LetterFile is a part that has a name.
type LetterFile struct {
	Name string
	Data []byte
}

// Letter reads a multipart mail as a submission client of the mesh's makes it.
func (m SMTPMail) Letter() (l Letter, err error) {
	read, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		return l, err
	}
	l.Header = read.Header
	return l, l.parts(read.Header.Get("Content-Type"), read.Body)
}

func (l *Letter) parts(contentType string, body io.Reader) error {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return err
	}
	for parts := multipart.NewReader(body, params["boundary"]); ; {
		part, err := parts.NextPart() // quoted-printable is decoded by it
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		kind := part.Header.Get("Content-Type")
		if strings.HasPrefix(kind, "multipart/") {
			if err := l.parts(kind, part); err != nil {
				return err
			}
			continue
		}
		var content io.Reader = part
		if strings.EqualFold(part.Header.Get("Content-Transfer-Encoding"), "base64") {
			content = base64.NewDecoder(base64.StdEncoding, part)
		}
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		switch {
		case part.FileName() != "":
			l.Files = append(l.Files, LetterFile{Name: part.FileName(), Data: data})
		case strings.HasPrefix(kind, "text/plain"):
			l.Text = strings.ReplaceAll(string(data), "\r\n", "\n")
		}
	}
}
