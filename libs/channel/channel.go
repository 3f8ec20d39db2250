// Package channel is the contract of an adapter: what a channel must be able to say of a provider's
// requests, and what it may do beyond. Adapters see bytes and headers and give events and replies back;
// they never see a ResponseWriter, Kafka or SQL.
package channel

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Adapter turns one provider's webhooks into events. Both methods are pure: no calls, no clock of their
// own, safe for concurrent use.
type Adapter interface {
	// Name is the channel's name: folder, topic segment and path segment.
	Name() string
	// Verify checks the request's signature on the raw bytes, in constant time, accepting any of the
	// secrets (rotation). It parses nothing. A refusal is an error with class Unverified; its text never
	// carries anything of the body.
	Verify(r *Request, secrets Secrets) error
	// Normalise reads a verified request. One bad item does not lose the rest: it is reported in
	// Result.Faults. An error means that the request is not what its content type promises (400).
	Normalise(r *Request) (Result, error)
}

// Challenger answers a provider's handshake: a GET, or an event that only asks for an echo. ok is false
// when the request is none. It is called after Verify for a POST, and instead of it for a GET.
type Challenger interface {
	Challenge(r *Request, secrets Secrets) (reply Reply, ok bool, err error)
}

// Sender causes one visible effect at the provider.
type Sender interface {
	// Check refuses, before any call, what the channel can't do. The error is an *Error.
	Check(out *Outgoing) error
	// Send makes the call. An *Error says what came of it; any other error, or an *Error that is not
	// NotTaken, leaves the outcome unknown unless its class is a definite refusal.
	Send(ctx context.Context, out *Outgoing) (Sent, error)
	// Pace names what the provider limits (a Slack channel, a sender's number) and how often it may be
	// used.
	Pace(out *Outgoing) Pace
}

// Fetcher fetches what an event only names.
type Fetcher interface {
	// Media is where an attachment lies and with which headers to ask for it. The mesh makes the request
	// itself: public addresses only, bounded in size and time. Allowed hosts may be named for credentials:
	// headers are sent to these only.
	Media(conn *Connection, ref MediaRef) (MediaRequest, error)
	// Profile asks the provider about a person; ok is false where it has nothing.
	Profile(ctx context.Context, conn *Connection, identity Identity) (p Profile, ok bool, err error)
}

// Locator is for providers of which some events only name a file. It is asked before Media, where a ref has no URL.
type Locator interface {
	// Locate asks the provider where an attachment lies. The error is an *Error.
	Locate(ctx context.Context, conn *Connection, ref MediaRef) (MediaRef, error)
}

// Inlet is how what comes by other ways than a webhook gets in: as durable, once it is taken, as a webhook that was
// answered 2xx.
type Inlet interface {
	// Account finds the connection of an account; ok is false only where it is sure that there is none. A connection
	// that was disconnected is none. An error: nobody can tell at present.
	Account(ctx context.Context, externalID string) (conn *Connection, ok bool, err error)
	// Take makes a result's events durable. An error: nothing may be forgotten, it must come again.
	Take(ctx context.Context, conn *Connection, result Result) error
}

// Listener takes in what does not come by HTTP.
type Listener interface {
	// Listen serves until ctx ends, and then ends what it serves.
	Listen(ctx context.Context, inlet Inlet) error
}

// Poller asks the provider for what a webhook may have failed to tell. Events that both tell have the same Key, or are states of
// which the newest counts.
type Poller interface {
	// Poll asks for what changed since a time, a page at most. next is the time to go on from; more: at once.
	Poll(ctx context.Context, conn *Connection, since time.Time) (result Result, next time.Time, more bool, err error)
	// PollEvery is how often a connection is asked.
	PollEvery() time.Duration
}

// Request is a webhook as it came.
type Request struct {
	Method string
	// Ref of POST /webhooks/<channel>/<ref>: an app's name or a connection's id.
	Ref string
	// URL as the provider saw it: scheme and host behind trusted proxies, query kept.
	URL    *url.URL
	Header http.Header
	Body   []byte
	// ReceivedAt on the mesh's clock.
	ReceivedAt time.Time
	// LocalTime is the same moment on this machine's own clock.
	LocalTime time.Time
	// App is the app that ref names, where it names one; AppIDs of ours decide what is our own echo.
	AppID string
	// VerifyToken of that app: what its provider repeats in a handshake.
	VerifyToken string
	// Settings of the connection that ref names, and Account, its external id, where it names one.
	Settings map[string]string
	Account  string

	form url.Values
}

// Form is the body read as a form, once. Nobody may change it, and a request is one goroutine's.
func (r *Request) Form() (url.Values, error) {
	if r.form != nil {
		return r.form, nil
	}
	form, err := url.ParseQuery(string(r.Body))
	if err != nil {
		return nil, errors.New("channel: body is not a form") // the cause may quote it
	}
	r.form = form
	return form, nil
}

// SignedWithin tells whether a time that the provider signed lies within a while of the request. The mesh's clock
// may be wrong, and this machine's own may be, but hardly both: either may vouch for it.
func (r *Request) SignedWithin(signed time.Time, while time.Duration) bool {
	for _, now := range []time.Time{r.ReceivedAt, r.LocalTime} {
		if now.Sub(signed).Abs() <= while {
			return true
		}
	}
	return false
}

// Secrets that a signature may be made with, newest first. Never log them.
type Secrets []string

// Reply is the answer to a request that was taken in. The zero Reply is 200 with an empty body.
type Reply struct {
	Status      int
	ContentType string
	Body        []byte
}

// Result of normalising one request.
//
//bound:exempt what one request holds, whose body is bounded
type Result struct {
	Events []Event
	Reply  Reply
	// Unknown counts, by the provider's type, what is not an event of ours. The type must come from a
	// provider's vocabulary, not from a person.
	Unknown []string
	// Faults are items that could not be read: a short class each. The rest counts.
	Faults []string
	// SignedAt is the time the provider signed, if it does (erased identities are checked by it, or by ActedAt).
	SignedAt time.Time
}

// Type of an Event.
type Type string

// Event types; the words of tributary.v1.EventType.
const (
	TypeMessage    Type = "message"
	TypeEdit       Type = "edit"
	TypeDeletion   Type = "deletion"
	TypeReaction   Type = "reaction"
	TypeReceipt    Type = "receipt"
	TypeProfile    Type = "profile"
	TypeConsent    Type = "consent"
	TypeRevocation Type = "revocation"
	TypeMembership Type = "membership"
	TypeCommerce   Type = "commerce"
	TypePrivacy    Type = "privacy"
)

// Event is one thing that happened at a provider, before sealing.
type Event struct {
	Type Type
	// Account is the connection's external id; empty where ref names the connection, or Grantor says whose it is.
	Account string
	// Grantor makes it an event of each account that a person granted to the app (see the function Grantor).
	Grantor string
	// Key is the provider's own id of this event, the same in every redelivery. The event id is made of
	// it, the connection and IDTime.
	Key string
	// IDTime is the provider's time where every redelivery repeats it, else zero.
	IDTime time.Time
	// ActedAt is when the author acted, by a time that the provider signed, where Result.SignedAt is not that: of one of
	// many events of a request; of an order, when it was placed, and not when the shop changed it. Zero:
	// Result.SignedAt counts.
	ActedAt time.Time
	// Order in microseconds; 0 where the provider gives none (the time of receipt then counts).
	Order int64
	// SourceType is the provider's own type.
	SourceType string
	// Outbound: sent by the connection's side elsewhere than through the mesh.
	Outbound  bool
	Automated bool
	Thread    Thread
	// Author acted: a subject is made for them where Type is an act of the person (message, edit, reaction,
	// consent, commerce without a Parent: what the shop does about an order is none); otherwise it is only looked
	// up, and the event dropped when there is none.
	Author *Identity
	// Contact is the one-to-one partner. Nil in a group.
	Contact *Identity
	// ExternalID is the message's id at the provider; Target the one that an edit, deletion, reaction or
	// receipt is about.
	ExternalID, Target, ReplyTo string
	Content                     *Content
	Emoji                       string
	Removed                     bool
	Receipt                     *Receipt
	Profile                     *Profile
	Consent                     *Consent
	Commerce                    *Commerce
	Technical                   map[string]string
	// Reason of a revocation or a privacy event: a word of the provider's vocabulary.
	Reason string
}

// Identity is a person as the provider names them.
type Identity struct {
	// Kind is a namespace: slack_user, phone.
	Kind string
	// Value is normalised and unique within Kind in a workspace ("T012:U345", "+41791234567").
	Value string
}

// Thread is where a conversation takes place.
type Thread struct {
	// ID is the provider's reference, enough to answer there. The conversation key of a group is made of
	// Key (or ID where Key is empty).
	ID    string
	Key   string
	Group bool
	// Root tells the conversations of one contact on a connection apart (the first mail of a thread). Empty: all
	// that is written with them is one.
	Root string
	// ConversationKey, where a receipt, an echo or a signed address carries it.
	ConversationKey string
}

// Content is what a person wrote.
type Content struct {
	Text string
	// HTML as it came: it is sanitised whenever it is shown.
	HTML        string
	Subject     string
	Attachments []Attachment
	Mentions    []Mention
	// Payload of a button, a menu or a link that was used.
	Payload string
	// MailID and References of a mail, the oldest first.
	MailID     string
	References []string
	// FullText, where Text is the new part of it alone.
	FullText string
}

// Attachment of a message. URL and Name are personal data and are sealed.
type Attachment struct {
	// Ref is the item's own id or place in the message, the same in every redelivery.
	Ref         string
	Kind        string // image, audio, video, file
	Name        string
	ContentType string
	Size        int64
	URL         string
	// Data is the item itself, where it came with the message: it is stored before the webhook is answered, and
	// URL stays empty.
	Data []byte
}

// Mention marks Text[Start:Start+Length] (bytes) as naming a person.
type Mention struct {
	Start, Length int
	Identity      Identity
}

// Status words of tributary.v1.Status that a provider's receipt may bring.
type Status string

// Statuses.
const (
	StatusSent      Status = "sent"
	StatusFailed    Status = "failed"
	StatusDelivered Status = "delivered"
	StatusRead      Status = "read"
)

// Receipt says what became of an outbound message.
type Receipt struct {
	MessageID string
	Part      int32
	Attempt   int32
	Status    Status
	Class     Class
	Code      string
	// Through makes it a range: everything sent up to then.
	Through time.Time
	// ExternalID and SentOrder of the provider's message, where the receipt names them.
	ExternalID string
	SentOrder  int64
}

// Profile of a person.
type Profile struct {
	Name, AvatarURL, Email, Phone, Handle, Locale, TimeZone string
}

// Consent words: Action is opt_out, opt_in or flagged; Source is keyword, provider or free_text.
type Consent struct {
	Action, Source string
	WorkspaceWide  bool
}

// Commerce is the newest state of an object of a shop. Amounts are decimal text, ids text.
type Commerce struct {
	// Kind is order, checkout, refund or fulfilment; Parent the order that the latter two are of.
	Kind, ID, Parent string
	Deleted          bool

	Number, Status, FinancialStatus, FulfilmentStatus string
	Currency, Total                                   string
	Lines                                             []CommerceLine
	CreatedAt, UpdatedAt                              time.Time
	URL, CustomerID, Email, Phone, Note               string
	Tags                                              []string
	TrackingNumber, TrackingURL                       string
	APIVersion                                        string
}

// CommerceLine is one line of an order. Price is of one.
type CommerceLine struct {
	ID, Title, SKU string
	Quantity       int64
	Price          string
}

// Connection is one messaging account, with its credentials opened. Never log it.
type Connection struct {
	ID, WorkspaceID, Channel, ExternalID, AppExternalID string
	// AppSecret is the client secret of the app it was connected through; empty where there is none.
	AppSecret   string
	Settings    map[string]string
	Credentials map[string]string
}

// Outgoing is one part of a message on its way to the provider.
type Outgoing struct {
	Connection      *Connection
	MessageID       string
	Part, Attempt   int32
	ConversationKey string
	Thread          Thread
	ReplyTo         string
	// To is the address, for channels that need one.
	To   string
	Text string
	// Subject and References of a mail, the answered one last.
	Subject    string
	References []string
	// Attachment that the part is; Attachments where the channel sends a message whole.
	Attachment *OutgoingAttachment
	//bound:exempt those of one message
	Attachments []*OutgoingAttachment
	// LastInbound is when the person last acted in the conversation, by the provider's time where it gives one; zero:
	// never.
	LastInbound time.Time
	// Now on the mesh's clock.
	Now time.Time
	// CallbackURL is where the provider shall send receipts of this part; empty when the mesh has no
	// public URL.
	CallbackURL string
	ByMember    bool
}

// OutgoingAttachment is a file to upload, or to be fetched by the provider at URL.
type OutgoingAttachment struct {
	Name, ContentType string
	Size              int64
	// Open gives the plain bytes.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// URL is a public, signed, short-lived address of the same bytes; empty when the mesh has none.
	URL string
}

// Sent is the provider's word that it took the message.
type Sent struct {
	ExternalID string
	// Order is the provider's own time of the message in microseconds, where its inbound events carry one.
	Order int64
}

// Pace is a provider's limit. A zero Every means none.
type Pace struct {
	Key   string
	Every time.Duration
	Burst int
}

// MediaRef names an attachment to fetch, as the event had it.
type MediaRef struct {
	URL, ExternalID, ContentType string
}

// MediaRequest is how to ask for an attachment.
type MediaRequest struct {
	URL    string
	Header http.Header
	// HeaderHosts are the hosts that Header may be sent to; redirects to others lose it.
	HeaderHosts []string
}

// Class of an error; tributary.v1.ErrorClass and, for requests, Unverified.
type Class string

// Classes.
const (
	ClassRetry        Class = "retry"
	ClassReauthorise  Class = "reauthorise"
	ClassReject       Class = "reject"
	ClassWindowClosed Class = "window_closed"
	ClassOptedOut     Class = "opted_out"
	ClassExpired      Class = "expired"
	ClassUnverified   Class = "unverified"
)

// Error of a provider, mapped once, where the provider's answer is read. Code is the provider's own
// code or a word of ours, never its free text.
type Error struct {
	Class Class
	Code  string
	// Sentence a member may read; never a person's data.
	Sentence string
	// NotTaken: the provider surely did not take the message, so that the call may be made again.
	NotTaken bool
	// RetryAfter, where the provider names a pause.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return string(e.Class) + ": " + e.Code }

// Timed is for channels whose message ids at the provider carry the message's time (Slack's ts). Message
// ids are then made with it, which keeps databases' indexes local.
type Timed interface {
	MessageTime(externalID string) time.Time
}
