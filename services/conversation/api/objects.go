package api

import (
	"cmp"
	"time"

	pb "tributary.dev/proto/gen/tributary/v1"
)

// Conversation as GET /v1/conversations/{id} answers it.
type Conversation struct {
	ID            string  `json:"id"`
	Channel       string  `json:"channel"`
	ConnectionID  string  `json:"connection_id"`
	ContactID     *string `json:"contact_id"`
	Status        string  `json:"status"`
	Subject       string  `json:"subject"`
	Unread        int     `json:"unread"`
	LastMessageAt string  `json:"last_message_at"`
	CreatedAt     string  `json:"created_at"`
}

// Message as GET /v1/messages/{id} answers it. Content says whether its words can be read.
type Message struct {
	ID             string       `json:"id"`
	ConversationID string       `json:"conversation_id"`
	ConnectionID   string       `json:"connection_id"`
	Direction      string       `json:"direction"`
	Type           string       `json:"type"`
	Content        string       `json:"content"`
	Subject        string       `json:"subject"`
	Text           string       `json:"text"`
	FullText       string       `json:"full_text"`
	HTML           string       `json:"html"`
	Payload        string       `json:"payload"`
	Attachments    []Attachment `json:"attachments"`
	Reactions      []Reaction   `json:"reactions"`
	Mentions       []Mention    `json:"mentions"`
	Sender         Sender       `json:"sender"`
	ExternalID     string       `json:"external_id"`
	ReplyTo        *string      `json:"reply_to"`
	Status         *string      `json:"status"`
	Error          *SendError   `json:"error"`
	Parts          []Part       `json:"parts"`
	EditedAt       *string      `json:"edited_at"`
	DeletedAt      *string      `json:"deleted_at"`
	SentAt         string       `json:"sent_at"`
}

// Order of a contact, or a checkout, as GET /v1/contacts/{id}/orders answers it. Amounts and ids are text: a number
// would not hold them.
type Order struct {
	ID               string       `json:"id"`
	ConnectionID     string       `json:"connection_id"`
	Kind             string       `json:"kind"`
	Content          string       `json:"content"`
	Number           string       `json:"number"`
	Status           string       `json:"status"`
	FinancialStatus  string       `json:"financial_status"`
	FulfilmentStatus string       `json:"fulfilment_status"`
	Currency         string       `json:"currency"`
	Total            string       `json:"total"`
	Lines            []OrderLine  `json:"lines"`
	Refunds          []Refund     `json:"refunds"`
	Fulfilments      []Fulfilment `json:"fulfilments"`
	CustomerID       string       `json:"customer_id"`
	Email            string       `json:"email"`
	Phone            string       `json:"phone"`
	Note             string       `json:"note"`
	Tags             []string     `json:"tags"`
	URL              string       `json:"url"`
	CreatedAt        *string      `json:"created_at"`
	UpdatedAt        string       `json:"updated_at"`
}

// OrderLine of an order, a refund or a fulfilment. Price is of one.
type OrderLine struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
	Price    string `json:"price"`
}

// Refund of an order.
type Refund struct {
	ID        string      `json:"id"`
	Content   string      `json:"content"`
	Status    string      `json:"status"`
	Currency  string      `json:"currency"`
	Total     string      `json:"total"`
	Note      string      `json:"note"`
	Lines     []OrderLine `json:"lines"`
	CreatedAt *string     `json:"created_at"`
	UpdatedAt string      `json:"updated_at"`
}

// Fulfilment of an order.
type Fulfilment struct {
	ID             string      `json:"id"`
	Content        string      `json:"content"`
	Number         string      `json:"number"`
	Status         string      `json:"status"`
	ShipmentStatus string      `json:"shipment_status"`
	TrackingNumber string      `json:"tracking_number"`
	TrackingURL    string      `json:"tracking_url"`
	Lines          []OrderLine `json:"lines"`
	CreatedAt      *string     `json:"created_at"`
	UpdatedAt      string      `json:"updated_at"`
}

// Whether a message's words, or what an order says, can be read.
const (
	contentOpen       = "open"
	contentDeleted    = "deleted"
	contentRestricted = "restricted"
	contentGone       = "gone"
	contentUnreadable = "unreadable"
)

// Attachment of a message. URL is null while nothing is stored. ContentID is what the message's HTML calls it ("cid:").
type Attachment struct {
	ID          string  `json:"id"`
	Kind        string  `json:"kind"`
	Name        string  `json:"name"`
	ContentType string  `json:"content_type"`
	Size        int64   `json:"size"`
	URL         *string `json:"url"`
	State       string  `json:"state"`
	Failed      string  `json:"failed,omitempty"`
	ContentID   string  `json:"content_id,omitempty"`
}

// Reaction that stands on a message.
type Reaction struct {
	Emoji  string `json:"emoji"`
	Sender Sender `json:"sender"`
	At     string `json:"at"`
}

// Mention says that Text[Start:Start+Length] (bytes) is a person's name.
type Mention struct {
	Start     int     `json:"start"`
	Length    int     `json:"length"`
	ContactID *string `json:"contact_id"`
}

// Sender is a contact, a member, or neither where the connection itself wrote.
type Sender struct {
	ContactID string `json:"contact_id,omitempty"`
	MemberID  string `json:"member_id,omitempty"`
	Name      string `json:"name"`
	Automated bool   `json:"automated,omitempty"`
}

// SendError says why a message or part failed, or that nobody knows whether it did.
type SendError struct {
	Class    string `json:"class"`
	Code     string `json:"code"`
	Sentence string `json:"sentence"`
}

// Part is one visible effect at the provider, with its newest attempt.
type Part struct {
	Part    int32      `json:"part"`
	Attempt int32      `json:"attempt"`
	Status  string     `json:"status"`
	Error   *SendError `json:"error"`
}

// Contact as GET /v1/contacts/{id} answers it.
type Contact struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Identities []Identity        `json:"identities"`
	Attributes map[string]string `json:"attributes"`
	CreatedAt  string            `json:"created_at"`
}

// Identity under which a provider knows a contact.
type Identity struct {
	Channel string `json:"channel"`
	Kind    string `json:"kind"`
	Value   string `json:"value"`
}

// timeText writes microseconds since 1970 as RFC 3339, always to the microsecond, so that texts sort as
// times do.
func timeText(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// optionalTime is null for 0.
func optionalTime(micros int64) *string {
	if micros == 0 {
		return nil
	}
	return new(timeText(micros))
}

// optional is null for "".
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func statusWord(s pb.Status) string {
	switch s {
	case pb.Status_STATUS_QUEUED:
		return "queued"
	case pb.Status_STATUS_SENDING:
		return "sending"
	case pb.Status_STATUS_UNKNOWN:
		return "unknown"
	case pb.Status_STATUS_SENT:
		return "sent"
	case pb.Status_STATUS_FAILED:
		return "failed"
	case pb.Status_STATUS_DELIVERED:
		return "delivered"
	case pb.Status_STATUS_READ:
		return "read"
	}
	return "queued"
}

// sendError is nil where nothing went wrong.
func sendError(status pb.Status, class pb.ErrorClass, code string) *SendError {
	switch status {
	case pb.Status_STATUS_FAILED:
		return failure(class, code)
	case pb.Status_STATUS_UNKNOWN:
		return &SendError{"unknown", cmp.Or(code, "no_answer"), "Nobody knows whether the provider took the message; sent again, it may arrive twice."}
	}
	return nil
}

// failure words a part's error once for all channels: a class, a code, and a sentence for a person.
func failure(class pb.ErrorClass, code string) *SendError {
	switch class {
	case pb.ErrorClass_ERROR_CLASS_RETRY:
		return &SendError{"retry", code, "The provider could not take the message just then; it can be sent again."}
	case pb.ErrorClass_ERROR_CLASS_REAUTHORISE:
		return &SendError{"reauthorise", code, "The connection is no longer authorised; connect the account again."}
	case pb.ErrorClass_ERROR_CLASS_REJECT:
		if sentence, ours := refusals[code]; ours {
			return &SendError{"reject", code, sentence}
		}
		return &SendError{"reject", code, "The provider refused the message."}
	case pb.ErrorClass_ERROR_CLASS_WINDOW_CLOSED:
		return &SendError{"window_closed", code, "The provider allows a reply only for some time after the person's last message."}
	case pb.ErrorClass_ERROR_CLASS_OPTED_OUT:
		return &SendError{"opted_out", code, "The person does not want messages on this channel."}
	case pb.ErrorClass_ERROR_CLASS_EXPIRED:
		return &SendError{"expired", code, "The message could not be sent in time."}
	}
	return nil
}
