package providers

import (
	"context"
	"fmt"
	"time"

	"tributary.dev/deploy/mesh"
	"tributary.dev/libs/channel/standin"
)

const (
	telegramToken  = "123456789:AAstandin-telegram-bot-token-0123456"
	telegramSecret = "standin-telegram-secret-token"
)

type telegram struct {
	*standin.Telegram
	path string
}

func startTelegram(address string, _ *Host) (Provider, error) {
	t, err := standin.NewTelegram(address, telegramToken)
	return &telegram{Telegram: t}, err
}

func (*telegram) Channel() string { return "telegram" }
func (*telegram) Name() string    { return "Telegram" }
func (*telegram) Secret() string  { return telegramSecret }

func (t *telegram) Settings() map[string]string {
	return map[string]string{"TRIBUTARY_TELEGRAM_API_URL": t.URL}
}

func (t *telegram) Connect(ctx context.Context, api *mesh.Client) error {
	id, err := connect(ctx, api, nil, mesh.Object{
		"channel": "telegram", "name": "Stand-in bot", "external_id": t.BotID(),
		"credentials": mesh.Object{"bot_token": telegramToken, "secret_token": telegramSecret},
	})
	t.path = "/webhooks/telegram/" + id
	return err
}

func (t *telegram) Says(person, n int, text string, now time.Time) Webhook {
	body := standin.TelegramUpdate(int64(n), "message", standin.TelegramMessage(int64(n), int64(10_000_000+person), "Person", now, text))
	return Webhook{t.path, standin.TelegramHeader(telegramSecret), body}
}

func (t *telegram) Taken() (all []Message) {
	for _, p := range t.Posts() {
		all = append(all, Message{fmt.Sprint(p.ChatID), p.Text})
	}
	return all
}
