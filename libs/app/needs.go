package app

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/localsecrets"
)

// Names of settings that services need; see Service.Needs.
const (
	KeeperURL     = "TRIBUTARY_KEEPER_URL"
	BucketURL     = "TRIBUTARY_BUCKET_URL"
	RegistryToken = "TRIBUTARY_REGISTRY_TOKEN"
)

// Lacks joins the faults of the common settings that the service needs: those that are empty, and URLs that
// nothing which is linked into this binary opens.
func (s Service) Lacks(common Common) error {
	var faults []error
	for _, need := range settingsOf(reflect.ValueOf(&common)) {
		switch {
		case !slices.Contains(s.Needs, need.name):
		case need.name == RegistryToken && common.Registry.TLSCert != "": // which is its identity
		case need.value.IsZero():
			faults = append(faults, fmt.Errorf("%s: is required", need.name))
		case need.name == KeeperURL:
			faults = append(faults, KeeperFault(KeeperURL, common.Keeper("channel")))
		case need.name == BucketURL:
			if u, err := url.Parse(common.BucketURL); err != nil || !blob.DefaultURLMux().ValidBucketScheme(u.Scheme) {
				faults = append(faults, fmt.Errorf("%s: is of no kind that is linked in (%s)", BucketURL, strings.Join(blob.DefaultURLMux().BucketSchemes(), ", ")))
			}
		}
	}
	return errors.Join(faults...)
}

// KeeperFault is what is wrong with a setting that is the URL of a gocloud.dev/secrets keeper, as far as it
// is seen without opening it; nil if nothing is. It does not show the URL, which may be the key itself.
func KeeperFault(setting, value string) error {
	scheme, key, _ := strings.Cut(value, "://")
	if !secrets.DefaultURLMux().ValidKeeperScheme(scheme) {
		return fmt.Errorf("%s: is of no kind that is linked in (%s)", setting, strings.Join(secrets.DefaultURLMux().KeeperSchemes(), ", "))
	}
	if scheme != localsecrets.Scheme {
		return nil
	}
	// An empty one would be a new key at each start.
	if _, err := localsecrets.Base64Key(strings.TrimSuffix(key, "/")); err != nil {
		return fmt.Errorf("%s: %s:// must hold 32 bytes in base64 (RFC 4648, section 5)", setting, scheme)
	}
	return nil
}
