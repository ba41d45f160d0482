// Package object keeps checkpoints in an S3-compatible object store: AWS, MinIO, Google Cloud Storage's S3 endpoint.
//
// DESIGN.md says how a store without rename keeps a checkpoint all or nothing, and why a run never waits for it.
package object

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
	"github.com/counterpoint-ml/counterpoint/data/spelling"
)

// Scheme begins the URLs of this package's stores.
const Scheme = "s3://"

// Place is where a store is: what its URL says, s3://BUCKET/PREFIX?endpoint=URL&region=NAME&path_style=true&checksums=false&spool=GB.
type Place struct {
	Bucket, Prefix string
	Endpoint       *url.URL // scheme and host
	Region         string   // "" = asked for
	PathStyle      bool     // https://HOST/BUCKET/KEY, not https://BUCKET.HOST/KEY
	Checksums      bool     // x-amz-checksum-sha256 beside Content-MD5 and the signed SHA-256
	Spool          int64    // bytes kept on this machine's disk
	query          string   // as it was given
}

// defaultSpool bounds what is kept on this machine's disk, in GB.
const defaultSpool = 16

var parameters = []string{"endpoint", "region", "path_style", "checksums", "spool"}

// IsURL reports whether where is meant for this package.
func IsURL(where string) bool { return strings.HasPrefix(where, Scheme) }

// errSecret does not repeat the URL, which would put the secret into a log.
var errSecret = errors.New("the URL of a checkpoint store holds credentials, which belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into ~/.aws/credentials: URLs are logged")

// Parse reads a store's URL. What it leaves out is taken from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION and
// AWS_DEFAULT_REGION.
func Parse(where string) (Place, error) {
	p, err := parse(where)
	if err != nil && !errors.Is(err, errSecret) {
		err = fmt.Errorf("checkpoint store %q: %w", where, err)
	}
	return p, err
}

func parse(where string) (Place, error) {
	if at := strings.Index(where, "@"); at >= 0 && !strings.ContainsAny(where[min(len(Scheme), at):at], "/?") {
		return Place{}, errSecret
	}
	u, err := url.Parse(where)
	if err != nil {
		var wrong *url.Error
		if errors.As(err, &wrong) {
			err = wrong.Err
		}
		return Place{}, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Place{}, err
	}
	for key := range query {
		if lower := strings.ToLower(key); strings.Contains(lower, "secret") || strings.Contains(lower, "access") || strings.Contains(lower, "token") || strings.Contains(lower, "password") {
			return Place{}, errSecret
		}
	}
	switch {
	case u.Scheme+"://" != Scheme:
		return Place{}, fmt.Errorf("scheme %q; s3://BUCKET/PREFIX, file:///FOLDER and a folder are allowed", u.Scheme)
	case u.Host == "" || strings.Contains(u.Host, ":"):
		return Place{}, errors.New("no bucket; s3://BUCKET/PREFIX is expected, and the server goes into ?endpoint=https://HOST:PORT")
	case u.Fragment != "":
		return Place{}, fmt.Errorf("%q follows a #, which has no meaning here", u.Fragment)
	}
	p := Place{Bucket: u.Host, Prefix: strings.Trim(path.Clean("/"+u.Path), "/"), query: u.RawQuery, Checksums: true, Spool: defaultSpool << 30}
	for key, values := range query {
		if !slices.Contains(parameters, key) {
			text := strings.Join(parameters, ", ") + " are allowed"
			if near := spelling.Nearest(key, parameters); near != "" {
				text = fmt.Sprintf("did you mean %q? %s", near, text)
			}
			return Place{}, fmt.Errorf("parameter %q: %s", key, text)
		}
		if len(values) > 1 {
			return Place{}, fmt.Errorf("parameter %q is given %d times", key, len(values))
		}
	}
	return p, p.fill(query)
}

// fill takes the parameters, and the environment's where there are none.
func (p *Place) fill(query url.Values) (err error) {
	endpoint := first(query.Get("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"))
	p.Region = first(query.Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"))
	if endpoint == "" {
		endpoint = "https://s3.amazonaws.com"
	} else if p.Region == "" {
		p.Region = "us-east-1" // what MinIO and most others call theirs
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	if p.Endpoint, err = url.Parse(endpoint); err != nil {
		return fmt.Errorf("endpoint %q: %w", endpoint, errors.Unwrap(err))
	}
	if e := p.Endpoint; e.User != nil {
		return errSecret
	} else if e.Scheme != "https" && e.Scheme != "http" || e.Host == "" || strings.Trim(e.Path, "/") != "" || e.RawQuery != "" {
		return fmt.Errorf("endpoint %q: https://HOST:PORT or http://HOST:PORT is allowed", endpoint)
	}
	host := p.Endpoint.Hostname()
	p.PathStyle = !strings.HasSuffix(host, "amazonaws.com") && !strings.HasSuffix(host, "googleapis.com")
	p.Checksums = !strings.HasSuffix(host, "googleapis.com") // it knows no x-amz-checksum headers
	for key, value := range map[string]*bool{"path_style": &p.PathStyle, "checksums": &p.Checksums} {
		if text := query.Get(key); text != "" {
			if *value, err = strconv.ParseBool(text); err != nil {
				return fmt.Errorf("parameter %s=%q: true and false are allowed", key, text)
			}
		}
	}
	if text := query.Get("spool"); text != "" {
		gb, err := strconv.ParseFloat(text, 64)
		if err != nil || !(gb >= 0 && gb < 1<<20) {
			return fmt.Errorf("parameter spool=%q: a number of GB is allowed, such as 16 or 0.5", text)
		}
		p.Spool = int64(gb * (1 << 30))
	}
	return nil
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// String returns the place's URL.
func (p Place) String() string { return p.of() }

// of returns the URL of something below the place.
func (p Place) of(names ...string) string {
	out := Scheme + path.Join(append([]string{p.Bucket, p.Prefix}, names...)...)
	if p.query != "" {
		out += "?" + p.query
	}
	return out
}

// key returns the name in the bucket of something below the place.
func (p Place) key(names ...string) string { return path.Join(append([]string{p.Prefix}, names...)...) }

// Join returns the URL of a store below another.
func Join(where, name string) string {
	base, query, ok := strings.Cut(where, "?")
	base = strings.TrimRight(base, "/") + "/" + name
	if ok {
		base += "?" + query
	}
	return base
}

// Split parts the URL of a checkpoint into its store and its name. Of a store's own URL the name is "".
func Split(where string) (store, name string) {
	base, query, ok := strings.Cut(where, "?")
	base = strings.TrimRight(base, "/")
	dir, last := path.Split(strings.TrimPrefix(base, Scheme))
	if _, is := checkpoints.ParseName(last); !is || dir == "" {
		return where, ""
	}
	base = Scheme + strings.TrimRight(dir, "/")
	if ok {
		base += "?" + query
	}
	return base, last
}
