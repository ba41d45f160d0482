package object

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"github.com/counterpoint-ml/counterpoint/checkpoints"
)

// Error is a request that a store refused or did not answer. It names no secrets.
type Error struct {
	Op       string // what was tried, such as "upload part 3 of"
	Bucket   string
	Key      string // "" = the bucket itself
	Endpoint string
	Code     string // S3's, such as AccessDenied; "" = no answer
	Status   int    // HTTP's; 0 = no answer
	Err      error
}

// Error says what to do about it too.
func (e *Error) Error() string {
	out := fmt.Sprintf("%s s3://%s", e.Op, e.Bucket)
	if e.Key != "" {
		out += "/" + e.Key
	}
	out += fmt.Sprintf(" at %s: %v", e.Endpoint, e.Err)
	if e.Code != "" && !strings.Contains(e.Err.Error(), e.Code) {
		out += fmt.Sprintf(" (%s)", e.Code)
	}
	if hint := e.hint(); hint != "" {
		out += "; " + hint
	}
	return out
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is tells what is not there from a store that did not answer, or not to us.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.missing()
	case checkpoints.ErrUnreachable:
		return !e.missing()
	}
	return false
}

func (e *Error) missing() bool {
	return e.Code == minio.NoSuchKey
}

// credentialNames are where credentials come from, for messages.
const credentialNames = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN for temporary ones), AWS_PROFILE of ~/.aws/credentials, or the machine's role"

func (e *Error) hint() string {
	switch e.Code {
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidTokenId", "InvalidToken", "ExpiredToken", "XMinioInvalidAccessKey", "XAdminUserNotFound":
		return "check the credentials: " + credentialNames
	case minio.AccessDenied, "AllAccessDisabled", "AccountProblem":
		return "the credentials need s3:ListBucket, s3:ListBucketMultipartUploads of the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts below the prefix"
	case minio.NoSuchBucket:
		return "create the bucket, or correct the name, ?region= or ?endpoint="
	case "RequestTimeTooSkewed":
		return "set this machine's clock"
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException":
		return "the bucket is in another region: give ?region="
	case "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded":
		return "the store is full: make room, or lower checkpoint.keep"
	}
	switch {
	case errors.Is(e.Err, errNoCredentials), e.Code != "":
		return ""
	case errors.Is(e.Err, http.ErrSchemeMismatch), strings.Contains(e.Err.Error(), "server gave HTTP response to HTTPS client"):
		return "the server speaks plain HTTP: give ?endpoint=http://HOST:PORT"
	case certificate(e.Err):
		return "put the authority of the server's certificate into the file that SSL_CERT_FILE names"
	case e.Status == 0:
		return "check that the server is up, and ?endpoint="
	}
	return ""
}

func certificate(err error) bool {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	return errors.As(err, &unknown) || errors.As(err, &invalid) || errors.As(err, &host)
}

// passing are S3's codes of refusals that a later try may not meet.
var passing = map[string]bool{
	"InternalError": true, "SlowDown": true, "SlowDownRead": true, "SlowDownWrite": true, "RequestTimeout": true, "ServiceUnavailable": true,
	"Throttling": true, "ThrottlingException": true, "RequestLimitExceeded": true, "BadDigest": true, "InvalidDigest": true,
	"XAmzContentSHA256Mismatch": true, "XAmzContentChecksumMismatch": true, "IncompleteBody": true, "OperationAborted": true,
	"XMinioServerNotInitialized": true, "Busy": true,
}

// doubtful are refusals that a bit flipped on the way causes as well as a mistake: they are tried a few times.
var doubtful = map[string]bool{"SignatureDoesNotMatch": true, "InvalidRequest": true, "MalformedXML": true}

func unsure(err error) bool {
	var answer minio.ErrorResponse
	return errors.As(err, &answer) && doubtful[answer.Code]
}

// transient reports whether the same request may succeed later.
func transient(err error) bool {
	var answer minio.ErrorResponse
	switch {
	case errors.Is(err, errNoCredentials), errors.Is(err, errLocal), certificate(err), errors.Is(err, http.ErrSchemeMismatch):
		return false
	case errors.As(err, &answer) && answer.StatusCode != 0:
		return passing[answer.Code] || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode == http.StatusRequestTimeout ||
			answer.StatusCode >= 500 && answer.StatusCode != http.StatusNotImplemented && answer.StatusCode != http.StatusInsufficientStorage
	}
	return !errors.Is(err, context.Canceled)
}

// fail wraps what a request came to.
func (s *Store) fail(op, key string, err error) error {
	if err == nil || errors.Is(err, errLocal) {
		return err
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{Op: op, Bucket: s.place.Bucket, Key: key, Endpoint: s.place.Endpoint.String(), Err: err}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		e.Code, e.Status = answer.Code, answer.StatusCode
	}
	return e
}
