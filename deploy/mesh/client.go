package mesh

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// Client speaks to the mesh as anyone outside would.
type Client struct {
	// Key is the API key that calls are made with.
	Key string

	url  string
	http http.Client
}

// NewClient makes a client of the mesh at a URL.
func NewClient(url string) *Client {
	return &Client{url: url, http: http.Client{Timeout: 10 * time.Second}}
}

// KeepConnections makes the client keep n connections for its next calls.
func (c *Client) KeepConnections(n int) {
	c.http.Transport = &http.Transport{MaxIdleConns: n, MaxIdleConnsPerHost: n, IdleConnTimeout: 30 * time.Second}
}

// Object is any JSON object the API answers.
type Object map[string]any

// Text is a field that is a string; "" where it is not.
func (o Object) Text(name string) string { s, _ := o[name].(string); return s }

// List is a field that is a list of objects.
func (o Object) List(name string) []Object {
	var out []Object
	items, _ := o[name].([]any)
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// Call makes an API call and wants the status.
func (c *Client) Call(ctx context.Context, method, path string, body any, want int) (Object, error) {
	status, raw, err := c.Raw(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	if status != want {
		return nil, fmt.Errorf("%s %s: %d, want %d: %s", method, path, status, want, raw)
	}
	var out Object
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &out); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return out, nil
}

// Raw makes an API call and gives what was answered.
func (c *Client) Raw(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(b)
	}
	return c.Send(ctx, method, path, http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + c.Key}}, content)
}

// Upload brings a file in and wants it created.
func (c *Client) Upload(ctx context.Context, path, name, contentType string, content []byte) (Object, error) {
	status, raw, err := c.Send(ctx, http.MethodPost, path, http.Header{
		"Content-Type": {contentType}, "Authorization": {"Bearer " + c.Key},
		"Content-Disposition": {mime.FormatMediaType("attachment", map[string]string{"filename": name})},
	}, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	var o Object
	if status != http.StatusCreated {
		return nil, fmt.Errorf("POST %s: %d: %s", path, status, raw)
	}
	err = json.Unmarshal(raw, &o)
	return o, err
}

// Webhook delivers a provider's request and gives the status.
func (c *Client) Webhook(ctx context.Context, path string, header http.Header, body []byte) (int, error) {
	status, _, err := c.Send(ctx, http.MethodPost, path, header, bytes.NewReader(body))
	return status, err
}

// Send makes any request.
func (c *Client) Send(ctx context.Context, method, path string, header http.Header, body io.Reader) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp.StatusCode, raw, err
}

// Stream opens an answer that goes on until ctx ends or the caller closes it.
func (c *Client) Stream(ctx context.Context, path string, header http.Header) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	endless := http.Client{Transport: c.http.Transport}
	resp, err := endless.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("GET %s: %d", path, resp.StatusCode)
	}
	return resp.Body, nil
}

// RawIdempotent is Raw with an Idempotency-Key.
func (c *Client) RawIdempotent(ctx context.Context, method, path string, body any, key string) (int, []byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	return c.Send(ctx, method, path, http.Header{
		"Content-Type": {"application/json"}, "Authorization": {"Bearer " + c.Key}, "Idempotency-Key": {key},
	}, bytes.NewReader(b))
}
