package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// newLogHandler writes JSON lines with the trace and request of the context.
func newLogHandler(out io.Writer, level slog.Level) slog.Handler {
	return &logHandler{slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: redact})}
}

type logHandler struct{ slog.Handler }

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("request_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs)}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name)}
}

// masked stands where a value was that no log may have.
const masked = "[masked]"

// redact is the last hand on every attribute.
func redact(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
		return a
	}
	if dangerous(a.Key) {
		return slog.String(a.Key, masked)
	}
	for _, g := range groups {
		if dangerous(g) {
			return slog.String(a.Key, masked)
		}
	}
	switch a.Value.Kind() {
	case slog.KindString:
		return slog.String(a.Key, scrub(a.Value.String()))
	case slog.KindAny:
		return slog.Attr{Key: a.Key, Value: redactAny(a.Value.Any())}
	default:
		return a
	}
}

// redactAny lets through errors (without their data) and lists of words; of any other value only the
// type's name is safe to write.
func redactAny(v any) slog.Value {
	switch v := v.(type) {
	case nil, json.Number:
		return slog.AnyValue(v)
	case error:
		return slog.StringValue(ErrorText(v))
	case []string:
		words := make([]string, len(v))
		for i, w := range v {
			words[i] = scrub(w)
		}
		return slog.AnyValue(words)
	case time.Time, time.Duration, *slog.Source, []int, []int32, []int64, map[string]int, map[string]int64:
		return slog.AnyValue(v)
	default:
		return slog.StringValue(fmt.Sprintf("[%T]", v))
	}
}

// dangerousWords are the parts of a key that name personal data or a secret.
var dangerousWords = map[string]bool{
	"text": true, "html": true, "body": true, "content": true, "payload": true, "message": true, "subject": true,
	"plain": true, "plaintext": true, "name": true, "email": true, "mail": true, "phone": true, "handle": true,
	"address": true, "avatar": true, "profile": true, "identity": true, "value": true, "emoji": true,
	"token": true, "secret": true, "secrets": true, "password": true, "authorization": true, "authorisation": true,
	"cookie": true, "signature": true, "credential": true, "credentials": true, "key": true, "keys": true,
	"query": true, "url": true, "uri": true, "header": true, "headers": true, "ip": true, "agent": true,
	"settings": true, "dsn": true,
}

// dangerous tells whether a key ("sender_name", "Authorization", "subject") names what no log may have. A
// key that ends in a word for an id, a class or a measure ("subject_id", "key_hits", "body_bytes") does
// not.
func dangerous(key string) bool {
	words := strings.FieldsFunc(strings.ToLower(snake.ReplaceAllString(key, "${1}_${2}")), func(r rune) bool {
		return r == '_' || r == '.' || r == '-' || r == ' '
	})
	if len(words) == 0 {
		return false
	}
	switch words[len(words)-1] {
	case "id", "ids", "class", "type", "kind", "code", "status", "state", "count", "total", "hits", "misses", "bytes",
		"length", "size", "seconds", "ms", "us", "version":
		return false
	}
	for _, w := range words {
		if dangerousWords[w] {
			return true
		}
	}
	return false
}

var (
	snake = regexp.MustCompile(`([a-z0-9])([A-Z])`)

	quotation = regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”")
	mailbox   = regexp.MustCompile(`[\p{L}\p{N}._%+\-]+@[\p{L}\p{N}.\-]+`)
	credent   = regexp.MustCompile(`\b(?:trb_\w+|xox[a-z]+-[\w-]+|xapp-[\w-]+|Bearer\s+\S+|Basic\s+\S+)`)
	userinfo  = regexp.MustCompile(`(\w+://)[^/\s@]+@`)
	queries   = regexp.MustCompile(`(\w+://[^\s?#]+)[?#]\S*`)
	telephone = regexp.MustCompile(`\+\d[\d\s().\-]{5,}\d`)
)

// scrub takes out of a text what looks like a person's address or number, a credential, or a quotation:
// the second line of defence behind the rule that none is written.
func scrub(s string) string {
	if !strings.ContainsAny(s, "\"'`“@+?#_- ") {
		return s
	}
	s = userinfo.ReplaceAllString(s, "${1}")
	s = queries.ReplaceAllString(s, "${1}")
	s = credent.ReplaceAllString(s, masked)
	s = mailbox.ReplaceAllString(s, masked)
	s = telephone.ReplaceAllString(s, masked)
	return quotation.ReplaceAllString(s, masked)
}
