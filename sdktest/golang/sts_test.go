package golang

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"github.com/shardlog/shardlog/awsapi"
	"github.com/shardlog/shardlog/awsapi/awstest"
)

func TestCallerIdentity(t *testing.T) {
	srv := awstest.NewServer(t, &awstest.Options{API: &awsapi.Options{Credentials: map[string]string{"123456789012": "secret"}}})
	client := func(secret string) *sts.Client {
		return sts.New(sts.Options{
			Region: "eu-west-1", BaseEndpoint: aws.String(srv.URL), HTTPClient: srv.Client(), Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider("123456789012", secret, ""),
		})
	}
	who := must[*sts.GetCallerIdentityOutput](t)(client("secret").GetCallerIdentity(t.Context(), nil))
	require.Equal(t, []string{"123456789012", "123456789012", "arn:aws:iam::123456789012:root"}, []string{*who.Account, *who.UserId, *who.Arn})
	var failed smithy.APIError
	_, err := client("wrong").GetCallerIdentity(t.Context(), nil)
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "SignatureDoesNotMatch", failed.ErrorCode())
	_, err = client("secret").AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::123456789012:role/r"), RoleSessionName: aws.String("xx")})
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "InvalidAction", failed.ErrorCode())
}
