package provider

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tributary.dev/libs/channel"
)

// messenger speaks to Facebook Login and the Graph API
// (https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow).
type messenger struct {
	graph, dialog string
	api           caller
}

var graphVersion = regexp.MustCompile(`^v[0-9]{1,3}\.[0-9]$`)

var (
	// pagePermissions are asked for; without the first two nothing works.
	pagePermissions = []string{"pages_messaging", "pages_manage_metadata", "pages_show_list"}
	// pageFields are what a Page sends
	// (https://developers.facebook.com/docs/graph-api/reference/page/subscribed_apps).
	pageFields = []string{
		"messages", "messaging_postbacks", "messaging_optins", "messaging_referrals", "message_deliveries", "message_reads",
		"message_echoes", "message_reactions", "message_edits", "standby",
	}
)

// maxPages of Facebook that a person may choose from, in answers of a hundred.
//
//bound:limit Facebook Pages to choose from | {} answers of a hundred | those behind are not offered
const maxPages = 10

func (m *messenger) AuthoriseURL(app App, try Attempt) (string, error) {
	return withQuery(m.dialog, url.Values{
		"client_id": {app.ClientID}, "redirect_uri": {try.RedirectURL}, "state": {try.State}, "response_type": {"code"},
		"scope": {strings.Join(pagePermissions, ",")}, "auth_type": {"rerequest"},
	})
}

// Exchange of a code for the Pages that the person manages. The person's own token, short or long, is forgotten: a
// Page's token that was got by a long-lived one does not expire. Of the person a pseudonym is kept: when they take the app
// off their account, or ask for the deletion of their data, Meta names them and no Page.
func (m *messenger) Exchange(ctx context.Context, app App, try Attempt, answer url.Values) ([]Account, error) {
	if err := cancelled(answer); err != nil {
		return nil, err
	}
	person, err := m.token(ctx, app, url.Values{"redirect_uri": {try.RedirectURL}, "code": {answer.Get("code")}})
	if err != nil {
		return nil, err
	}
	person, err = m.token(ctx, app, url.Values{"grant_type": {"fb_exchange_token"}, "fb_exchange_token": {person}})
	if err != nil {
		return nil, err
	}
	if err := m.permitted(ctx, app, person); err != nil {
		return nil, err
	}
	accounts, err := m.pages(ctx, app, person)
	if err != nil || app.VerifyToken == "" {
		return accounts, err
	}
	var user struct{ ID string }
	if err := m.call(ctx, m.as(app, person, http.MethodGet, "/me", url.Values{"fields": {"id"}}), &user); err != nil {
		return nil, err
	}
	for i := range accounts {
		if user.ID != "" {
			accounts[i].Grantor = channel.Grantor(app.VerifyToken, user.ID)
		}
	}
	return accounts, nil
}

func (m *messenger) token(ctx context.Context, app App, form url.Values) (string, error) {
	form.Set("client_id", app.ClientID)
	form.Set("client_secret", app.ClientSecret)
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	if err := m.call(ctx, request{method: http.MethodPost, url: m.graph + "/oauth/access_token", form: form}, &granted); err != nil {
		return "", err
	}
	if granted.AccessToken == "" {
		return "", &Fault{Code: "no_token"}
	}
	return granted.AccessToken, nil
}

// permitted: a person may have unticked what was asked for.
func (m *messenger) permitted(ctx context.Context, app App, token string) error {
	var permissions struct {
		Data []struct{ Permission, Status string }
	}
	if err := m.call(ctx, m.as(app, token, http.MethodGet, "/me/permissions", nil), &permissions); err != nil {
		return err
	}
	for _, needed := range pagePermissions {
		if !slices.Contains(permissions.Data, struct{ Permission, Status string }{needed, "granted"}) {
			return &Fault{Code: "scope_missing"}
		}
	}
	return nil
}

func (m *messenger) pages(ctx context.Context, app App, token string) (accounts []Account, err error) {
	query := url.Values{"fields": {"id,name,access_token"}, "limit": {"100"}}
	for range maxPages {
		var page struct {
			Data []struct {
				ID, Name    string
				AccessToken string `json:"access_token"`
			}
			Paging struct {
				Next    string
				Cursors struct{ After string }
			}
		}
		if err := m.call(ctx, m.as(app, token, http.MethodGet, "/me/accounts", query), &page); err != nil {
			return nil, err
		}
		for _, p := range page.Data {
			if p.ID != "" && p.AccessToken != "" {
				accounts = append(accounts, Account{ExternalID: p.ID, Name: p.Name, Credentials: map[string]string{"page_token": p.AccessToken}})
			}
		}
		if page.Paging.Next == "" || page.Paging.Cursors.After == "" {
			break
		}
		query.Set("after", page.Paging.Cursors.After)
	}
	if len(accounts) == 0 {
		return nil, &Fault{Code: "no_accounts"}
	}
	return accounts, nil
}

func (m *messenger) Attach(ctx context.Context, app App, a Account) error {
	r := m.as(app, a.Credentials["page_token"], http.MethodPost, "/"+url.PathEscape(a.ExternalID)+"/subscribed_apps", nil)
	r.form = url.Values{"subscribed_fields": {strings.Join(pageFields, ",")}}
	var answer struct{ Success bool }
	if err := m.call(ctx, r, &answer); err != nil {
		return err
	}
	if !answer.Success {
		return &Fault{Code: "not_subscribed"}
	}
	return nil
}

// Check asks whose the token is.
func (m *messenger) Check(ctx context.Context, app App, a Account) error {
	var page struct{ ID string }
	err := m.call(ctx, m.as(app, a.Credentials["page_token"], http.MethodGet, "/me", url.Values{"fields": {"id"}}), &page)
	if err == nil && page.ID != "" && page.ID != a.ExternalID {
		err = &Fault{Code: "other_account", Field: "external_id"}
	}
	return err
}

// Revoke ends the Page's events. Its token ends when a person takes the app off the Page: no call does that alone.
func (m *messenger) Revoke(ctx context.Context, app App, a Account) error {
	return done(m.call(ctx, m.as(app, a.Credentials["page_token"], http.MethodDelete, "/"+url.PathEscape(a.ExternalID)+"/subscribed_apps", nil), nil))
}

// as is a call by a token, with the proof that it is the app who makes it
// (https://developers.facebook.com/docs/graph-api/guides/secure-requests).
func (m *messenger) as(app App, token, method, path string, query url.Values) request {
	mac := hmac.New(sha256.New, []byte(app.ClientSecret))
	mac.Write([]byte(token))
	all := url.Values{}
	for name, values := range query {
		all[name] = values
	}
	all.Set("appsecret_proof", hex.EncodeToString(mac.Sum(nil)))
	return request{method: method, url: m.graph + path + "?" + all.Encode(), header: bearer(token)}
}

// call maps the Graph API's errors (https://developers.facebook.com/docs/graph-api/guides/error-handling).
func (m *messenger) call(ctx context.Context, r request, out any) error {
	status, refusal, err := m.api.do(ctx, r, out)
	if err != nil || status/100 == 2 {
		return err
	}
	var answer struct {
		Error struct {
			Code    int
			Subcode int `json:"error_subcode"`
		}
	}
	if json.Unmarshal(refusal, &answer) != nil || answer.Error.Code == 0 {
		return statusFault(status)
	}
	f := &Fault{Code: strconv.Itoa(answer.Error.Code)}
	if answer.Error.Subcode != 0 {
		f.Code += "/" + strconv.Itoa(answer.Error.Subcode)
	}
	if answer.Error.Code == 190 { // the token has expired, was withdrawn, or is none
		f.Void, f.Field = true, "credentials/page_token"
	}
	return f
}
