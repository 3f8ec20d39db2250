package standin

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Graph stands in for Meta's Graph API, as far as Messenger uses it: the Send API, people's profiles, and media.
type Graph struct {
	*server

	appID, appSecret string
	pages            map[string]string
	people           map[string]GraphPerson
	media            map[string]Media
	posts            []GraphPost
	// OAuth is how a Page's owner connects it.
	OAuth  *GraphOAuth
	refuse func(GraphPost) *GraphError
	// Posted is called after a message was taken, before the call is answered: the place to send its echo.
	Posted func(GraphPost)
}

// GraphPost is a message that Messenger took.
type GraphPost struct {
	MID, Page, PSID    string
	MessagingType, Tag string
	Text, Metadata     string
	ReplyTo            string
	// At is Meta's own time of the message, in milliseconds: later for each.
	At time.Time
	// AttachmentType of a file: at URL, or uploaded as File.
	AttachmentType, URL, FileName, FileType string
	File                                    []byte
}

// GraphPerson is a person's profile.
type GraphPerson struct{ FirstName, LastName, Picture string }

// GraphError is a refusal in the Graph API's own words. Status is 400 where it is 0.
type GraphError struct {
	Status, Code, Subcode int
	Transient             bool
}

// NewGraph starts one on address, for one app and its Pages (their tokens by their ids). People without a name are not
// known to it, but can be written to.
func NewGraph(address, appID, appSecret string, pages map[string]string) (*Graph, error) {
	g := &Graph{
		server: newServer(), appID: appID, appSecret: appSecret, pages: maps.Clone(pages),
		people: map[string]GraphPerson{}, media: map[string]Media{},
	}
	g.mux.HandleFunc("POST /{version}/{page}/messages", g.send)
	g.mux.HandleFunc("GET /{version}/{id}", g.profile)
	g.mux.HandleFunc("GET /media/files/{path...}", g.fetch)
	login := GraphOAuthConfig{AppID: appID, AppSecret: appSecret}
	for _, id := range slices.Sorted(maps.Keys(pages)) {
		login.Pages = append(login.Pages, GraphPage{ID: id, Name: "Page " + id, Token: pages[id]})
	}
	g.OAuth = NewGraphOAuth(g.mux, login)
	return g, g.start(address)
}

// Posts are the messages taken so far, in order.
func (g *Graph) Posts() []GraphPost {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.posts)
}

// Know tells of a person.
func (g *Graph) Know(psid string, p GraphPerson) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.people[psid] = p
}

// Keep has media that can be fetched from /media/files/ and path.
func (g *Graph) Keep(path string, m Media) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.media[path] = m
}

// Token makes a Page's token another; the empty one is none any more.
func (g *Graph) Token(page, token string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pages[page] = token
}

// Refuse sets what decides about each message, before it is taken; nil takes all.
func (g *Graph) Refuse(decide func(GraphPost) *GraphError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = decide
}

// refusal of a call that has no token of a Page, or whose proof is not the app's; "" is any Page.
func (g *Graph) refusal(r *http.Request, page string) *GraphError {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if token == "" {
		token = r.FormValue("access_token")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	owner := ""
	for id, known := range g.pages {
		if token != "" && token == known {
			owner = id
		}
	}
	switch {
	case owner == "":
		return &GraphError{Status: http.StatusUnauthorized, Code: 190}
	case !hmac.Equal([]byte(r.FormValue("appsecret_proof")), []byte(graphMAC(g.appSecret, []byte(token)))):
		return &GraphError{Code: 100}
	case page != "" && page != "me" && page != owner:
		return &GraphError{Status: http.StatusForbidden, Code: 200}
	}
	return nil
}

func (g *Graph) send(w http.ResponseWriter, r *http.Request) {
	g.carry(w, r, "messages", func() (int, any) {
		p, ok := readGraphPost(r)
		if e := g.refusal(r, r.PathValue("page")); e != nil {
			return e.answer()
		}
		if !ok {
			return (&GraphError{Code: 100}).answer()
		}
		p.Page = r.PathValue("page")
		g.mu.Lock()
		if g.refuse != nil {
			if e := g.refuse(p); e != nil {
				g.mu.Unlock()
				return e.answer()
			}
		}
		p.At = time.Now().Truncate(time.Millisecond)
		if last := len(g.posts) - 1; last >= 0 && !p.At.After(g.posts[last].At) {
			p.At = g.posts[last].At.Add(time.Millisecond)
		}
		p.MID = fmt.Sprintf("m_%s-%04d", graphMAC(p.Page, []byte(p.PSID))[:24], len(g.posts)+1)
		g.posts = append(g.posts, p)
		posted := g.Posted
		g.mu.Unlock()
		if posted != nil {
			posted(p)
		}
		return http.StatusOK, map[string]any{"recipient_id": p.PSID, "message_id": p.MID}
	})
}

// readGraphPost reads a call of the Send API, as JSON or as a form with a file.
func readGraphPost(r *http.Request) (p GraphPost, ok bool) {
	var in struct {
		Recipient     struct{ ID string }  `json:"recipient"`
		MessagingType string               `json:"messaging_type"`
		Tag           string               `json:"tag"`
		ReplyTo       struct{ MID string } `json:"reply_to"`
		Message       struct {
			Text, Metadata string
			Attachment     struct {
				Type    string
				Payload struct{ URL string }
			}
		} `json:"message"`
	}
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType == "multipart/form-data" {
		file, header, err := r.FormFile("filedata")
		if err != nil {
			return p, false
		}
		defer file.Close()
		if p.File, err = io.ReadAll(io.LimitReader(file, 64<<20)); err != nil {
			return p, false
		}
		p.FileName, p.FileType = header.Filename, header.Header.Get("Content-Type")
		in.MessagingType, in.Tag = r.FormValue("messaging_type"), r.FormValue("tag")
		for name, v := range map[string]any{"recipient": &in.Recipient, "message": &in.Message, "reply_to": &in.ReplyTo} {
			if text := r.FormValue(name); text != "" && json.Unmarshal([]byte(text), v) != nil {
				return p, false
			}
		}
	} else if json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&in) != nil {
		return p, false
	}
	m := in.Message
	p.PSID, p.MessagingType, p.Tag, p.ReplyTo = in.Recipient.ID, in.MessagingType, in.Tag, in.ReplyTo.MID
	p.Text, p.Metadata, p.AttachmentType, p.URL = m.Text, m.Metadata, m.Attachment.Type, m.Attachment.Payload.URL
	sound := p.PSID != "" && p.MessagingType != "" && (p.Text != "") != (p.AttachmentType != "") && len(p.Metadata) <= 1000
	return p, sound && (p.AttachmentType == "" || (p.URL != "") != (len(p.File) > 0)) && (p.MessagingType == "MESSAGE_TAG") == (p.Tag != "")
}

func (g *Graph) profile(w http.ResponseWriter, r *http.Request) {
	g.carry(w, r, "profile", func() (int, any) {
		if e := g.refusal(r, ""); e != nil {
			return e.answer()
		}
		g.mu.Lock()
		p, ok := g.people[r.PathValue("id")]
		g.mu.Unlock()
		if !ok {
			return (&GraphError{Code: 100, Subcode: 2018218}).answer()
		}
		return http.StatusOK, map[string]any{
			"id": r.PathValue("id"), "first_name": p.FirstName, "last_name": p.LastName, "profile_pic": p.Picture,
		}
	})
}

func (g *Graph) fetch(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	m, ok := g.media[r.PathValue("path")]
	g.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", m.ContentType)
	_, _ = w.Write(m.Data)
}

func (e *GraphError) answer() (int, any) {
	told := map[string]any{"message": "(#" + fmt.Sprint(e.Code) + ") said the stand-in", "type": "OAuthException", "code": e.Code, "fbtrace_id": "AStandIn"}
	if e.Subcode != 0 {
		told["error_subcode"] = e.Subcode
	}
	if e.Transient {
		told["is_transient"] = true
	}
	return max(e.Status, http.StatusBadRequest), map[string]any{"error": told}
}

func graphMAC(key string, data []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(data)
	return hex.EncodeToString(mac.Sum(nil))
}

// GraphHeader signs a webhook's body as Meta does.
func GraphHeader(appSecret string, body []byte) http.Header {
	return http.Header{"Content-Type": {"application/json"}, "X-Hub-Signature-256": {"sha256=" + graphMAC(appSecret, body)}}
}

// GraphCallback makes a callback's form about a user, by the id that Facebook Login gives the app.
func GraphCallback(appSecret, user string, at time.Time) (http.Header, []byte) {
	payload, err := json.Marshal(map[string]any{"algorithm": "HMAC-SHA256", "expires": at.Add(time.Hour).Unix(), "issued_at": at.Unix(), "user_id": user})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	form := "signed_request=" + GraphSignedRequest(appSecret, base64.RawURLEncoding.EncodeToString(payload))
	return http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form)
}

// GraphSignedRequest signs a payload that is encoded, as Meta does.
func GraphSignedRequest(appSecret, encoded string) string {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write([]byte(encoded))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) + "." + encoded
}

// GraphWebhook makes the body of a webhook about one Page.
func GraphWebhook(page string, at time.Time, items ...map[string]any) []byte {
	body, err := json.Marshal(map[string]any{"object": "page", "entry": []any{
		map[string]any{"id": page, "time": at.UnixMilli(), "messaging": items},
	}})
	if err != nil {
		panic(err) // maps of strings and numbers always encode
	}
	return body
}

// MessengerItem is what a person did: what it is, beside message or the like, is in fields.
func MessengerItem(page, psid string, at time.Time, fields map[string]any) map[string]any {
	item := map[string]any{"sender": map[string]any{"id": psid}, "recipient": map[string]any{"id": page}, "timestamp": at.UnixMilli()}
	maps.Copy(item, fields)
	return item
}

// MessengerMessage is a message of a person, with files by their addresses.
func MessengerMessage(page, psid, mid string, at time.Time, text string, imageURLs ...string) map[string]any {
	m := map[string]any{"mid": mid}
	if text != "" {
		m["text"] = text
	}
	var files []any
	for _, u := range imageURLs {
		files = append(files, map[string]any{"type": "image", "payload": map[string]any{"url": u}})
	}
	if files != nil {
		m["attachments"] = files
	}
	return MessengerItem(page, psid, at, map[string]any{"message": m})
}

// Echo is the echo of a message that the stand-in took.
func (g *Graph) Echo(p GraphPost) map[string]any { return MessengerEcho(json.Number(g.appID), p) }

// MessengerEcho is the echo of a message that an app sent; empty: in Meta's own inbox, which names none.
func MessengerEcho(appID json.Number, p GraphPost) map[string]any {
	m := map[string]any{"mid": p.MID, "is_echo": true}
	if appID != "" {
		m["app_id"] = appID
	}
	for name, value := range map[string]string{"text": p.Text, "metadata": p.Metadata} {
		if value != "" {
			m[name] = value
		}
	}
	return map[string]any{
		"sender": map[string]any{"id": p.Page}, "recipient": map[string]any{"id": p.PSID}, "timestamp": p.At.UnixMilli(), "message": m,
	}
}

// MessengerDelivery says that everything up to through reached the person's device; mids may be left out.
func MessengerDelivery(page, psid string, through time.Time, mids ...string) map[string]any {
	d := map[string]any{"watermark": through.UnixMilli()}
	if len(mids) > 0 {
		d["mids"] = mids
	}
	return MessengerItem(page, psid, through, map[string]any{"delivery": d})
}

// MessengerRead says that the person has seen everything up to through.
func MessengerRead(page, psid string, through, at time.Time) map[string]any {
	return MessengerItem(page, psid, at, map[string]any{"read": map[string]any{"watermark": through.UnixMilli()}})
}
