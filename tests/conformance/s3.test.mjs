// S3: the AWS SDK for JavaScript against /s3/ACCOUNT: objects, lists, uploads in parts, presigned URLs, settings of buckets; and what no
// client should send, by hand
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import { Readable } from 'node:stream';
import * as s3 from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { request, until } from '../harness.mjs';

const MIN = 5 << 20;
const hex = (b) => crypto.createHash('sha256').update(b).digest('hex');
const md5 = (b) => crypto.createHash('md5').update(b).digest();
const bytes = (n, seed = 0) => Buffer.from(Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8) + seed) & 255));

// A signature of our own making, so that single parts of it can be wrong.
export function sign({ method = 'GET', path, query = '', headers = {}, payload = 'UNSIGNED-PAYLOAD', id, secret, host, at = new Date(), region = 'auto' }) {
  const date = at.toISOString().replace(/[-:]|\.\d+/g, '');
  const day = date.slice(0, 8);
  const all = { host, 'x-amz-date': date, 'x-amz-content-sha256': payload, ...headers };
  const names = Object.keys(all).map((n) => n.toLowerCase()).sort();
  const canonical = [method, path, query, ...names.map((n) => `${n}:${String(all[n]).trim()}`), '', names.join(';'), payload].join('\n');
  const scope = `${day}/${region}/s3/aws4_request`;
  const mac = (key, text) => crypto.createHmac('sha256', key).update(text).digest();
  const key = ['s3', 'aws4_request'].reduce(mac, mac(mac(`AWS4${secret}`, day), region));
  const signature = mac(key, ['AWS4-HMAC-SHA256', date, scope, hex(canonical)].join('\n')).toString('hex');
  return { headers: { ...all, authorization: `AWS4-HMAC-SHA256 Credential=${id}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}` }, key, scope, date, signature, mac };
}

export async function credentials(p) {
  const id = (await p.api('GET', '/user/tokens/verify')).json.result.id;
  return { accessKeyId: id, secretAccessKey: hex(p.token) };
}

export async function run(test, p) {
  const key = await credentials(p);
  const endpoint = `http://127.0.0.1:${p.port}/s3/${p.account}`;
  const client = new s3.S3Client({ region: 'auto', endpoint, forcePathStyle: true, credentials: key, maxAttempts: 1 });
  const send = (name, input) => client.send(new s3[`${name}Command`](input));
  const refused = async (promise, name, status) => {
    const e = await promise.then(() => assert.fail(`${name} was expected`), (x) => x);
    assert.deepEqual([e.name, e.$metadata?.httpStatusCode], [name, status], String(e.stack ?? e));
  };
  const Bucket = 's3-test';
  const text = async (o) => o.Body.transformToString();

  await test('S3: buckets', async () => {
    await send('CreateBucket', { Bucket, CreateBucketConfiguration: { LocationConstraint: 'auto' } });
    await refused(send('CreateBucket', { Bucket }), 'BucketAlreadyOwnedByYou', 409);
    await refused(send('CreateBucket', { Bucket: 'Not_A_Name' }), 'InvalidBucketName', 400);
    await send('HeadBucket', { Bucket });
    await refused(send('HeadBucket', { Bucket: 'nobody' }), 'NotFound', 404);
    const all = await send('ListBuckets', {});
    assert.ok(all.Buckets.some((b) => b.Name === Bucket && Math.abs(b.CreationDate - Date.now()) < 60_000));
    assert.equal((await send('GetBucketLocation', { Bucket })).LocationConstraint, 'WEUR');
    await send('CreateBucket', { Bucket: 's3-gone' });
    await send('DeleteBucket', { Bucket: 's3-gone' });
    await refused(send('DeleteBucket', { Bucket: 's3-gone' }), 'NoSuchBucket', 404);
  });

  await test('S3: objects go in and come out with their metadata', async () => {
    const put = await send('PutObject', { Bucket, Key: 'dir/k 1+ü?&', Body: 'hello', ContentType: 'text/x', CacheControl: 'no-store', ContentDisposition: 'inline', ContentLanguage: 'en', ContentEncoding: 'gzip',
      Expires: new Date(1800000000000), Metadata: { a: '1', Mixed: 'x y' } });
    assert.equal(put.ETag, `"${md5('hello').toString('hex')}"`);
    assert.equal(put.ChecksumCRC32, 'NhCmhg==');
    const got = await send('GetObject', { Bucket, Key: 'dir/k 1+ü?&' });
    assert.equal(await text(got), 'hello');
    assert.deepEqual([got.ContentType, got.CacheControl, got.ContentDisposition, got.ContentLanguage, got.ContentEncoding, +new Date(got.ExpiresString), got.Metadata, got.ContentLength, got.ETag, got.AcceptRanges],
      ['text/x', 'no-store', 'inline', 'en', 'gzip', 1800000000000, { a: '1', mixed: 'x y' }, 5, put.ETag, 'bytes']);
    assert.equal(got.ChecksumCRC32, 'NhCmhg==');
    const head = await send('HeadObject', { Bucket, Key: 'dir/k 1+ü?&', ChecksumMode: 'ENABLED' });
    assert.deepEqual([head.ContentLength, head.ETag, head.ChecksumCRC32, Math.abs(head.LastModified - Date.now()) < 60_000], [5, put.ETag, 'NhCmhg==', true]);
    const over = await send('GetObject', { Bucket, Key: 'dir/k 1+ü?&', ResponseContentType: 'a/b', ResponseContentDisposition: 'attachment; filename="x"' });
    assert.deepEqual([over.ContentType, over.ContentDisposition, await text(over)], ['a/b', 'attachment; filename="x"', 'hello']);
    await refused(send('GetObject', { Bucket, Key: 'none' }), 'NoSuchKey', 404);
    await refused(send('HeadObject', { Bucket, Key: 'none' }), 'NotFound', 404);
    await refused(send('GetObject', { Bucket: 'nobody', Key: 'k' }), 'NoSuchBucket', 404);
    await send('DeleteObject', { Bucket, Key: 'dir/k 1+ü?&' });
    await send('DeleteObject', { Bucket, Key: 'dir/k 1+ü?&' });
    await refused(send('GetObject', { Bucket, Key: 'dir/k 1+ü?&' }), 'NoSuchKey', 404);
    for (const Key of ['a/', '//', 'a//b', '.', '..', '../x', "!'()*~", '\u{1F600}', 'k'.repeat(1024)]) {
      await send('PutObject', { Bucket, Key, Body: Key });
      assert.equal(await text(await send('GetObject', { Bucket, Key })), Key, Key);
    }
    await refused(send('PutObject', { Bucket, Key: 'k'.repeat(1025), Body: '' }), 'InvalidObjectName', 400);
  });

  await test('S3: sizes around the border of rows and files, streams with trailers', async () => {
    for (const n of [0, 1, 65536, 65537, 300_000, 3_000_001]) {
      const body = bytes(n);
      await send('PutObject', { Bucket, Key: 'size', Body: body });
      assert.ok(body.equals(Buffer.from(await (await send('GetObject', { Bucket, Key: 'size' })).Body.transformToByteArray())), `${n} bytes`);
      for (const ChecksumAlgorithm of ['CRC32', 'CRC32C', 'CRC64NVME', 'SHA1', 'SHA256']) {
        if (n > 300_000 && ChecksumAlgorithm !== 'CRC32') continue;
        const put = await send('PutObject', { Bucket, Key: 'stream', Body: Readable.from(n ? [body.subarray(0, n >> 1), body.subarray(n >> 1)] : []), ContentLength: n, ChecksumAlgorithm }).catch((e) => {
          if (/CRC64NVME|crt/i.test(e.message)) return null; // the SDK wants another package for it
          throw e;
        });
        if (!put) continue;
        const got = await send('GetObject', { Bucket, Key: 'stream', ChecksumMode: 'ENABLED' });
        assert.ok(body.equals(Buffer.from(await got.Body.transformToByteArray())), `${n} bytes, ${ChecksumAlgorithm}`);
        assert.equal(got.ContentEncoding, undefined);
        assert.ok(got[`Checksum${ChecksumAlgorithm}`], ChecksumAlgorithm);
      }
    }
    const old = new s3.S3Client({ region: 'us-east-1', endpoint, forcePathStyle: true, credentials: key, requestChecksumCalculation: 'WHEN_REQUIRED' });
    await old.send(new s3.PutObjectCommand({ Bucket, Key: 'stream', Body: Readable.from([Buffer.from('plain')]), ContentLength: 5 }));
    assert.equal(await text(await old.send(new s3.GetObjectCommand({ Bucket, Key: 'stream' }))), 'plain');
  });

  await test('S3: ranges and conditions', async () => {
    const { ETag } = await send('PutObject', { Bucket, Key: 'r', Body: '0123456789' });
    for (const [Range, want, range] of [['bytes=2-5', '2345', 'bytes 2-5/10'], ['bytes=7-', '789', 'bytes 7-9/10'], ['bytes=-3', '789', 'bytes 7-9/10'], ['bytes=5-100', '56789', 'bytes 5-9/10']]) {
      const got = await send('GetObject', { Bucket, Key: 'r', Range });
      assert.deepEqual([await text(got), got.ContentRange, got.$metadata.httpStatusCode], [want, range, 206]);
    }
    await refused(send('GetObject', { Bucket, Key: 'r', Range: 'bytes=10-12' }), 'InvalidRange', 416);
    assert.equal(await text(await send('GetObject', { Bucket, Key: 'r', Range: 'bytes=1-2,4-5' })), '0123456789');
    const past = new Date(Date.now() - 3_600_000), future = new Date(Date.now() + 3_600_000);
    for (const [cond, status] of [[{ IfMatch: ETag }, 200], [{ IfMatch: '"x"' }, 412], [{ IfMatch: '*' }, 200], [{ IfNoneMatch: ETag }, 304], [{ IfNoneMatch: '"x"' }, 200], [{ IfModifiedSince: past }, 200],
      [{ IfModifiedSince: new Date(Date.now() - 10) }, 304], [{ IfUnmodifiedSince: past }, 412], [{ IfUnmodifiedSince: future }, 200], [{ IfMatch: ETag, IfUnmodifiedSince: past }, 200]]) {
      const r = await send('GetObject', { Bucket, Key: 'r', ...cond }).catch((e) => e);
      r.Body?.destroy?.();
      assert.equal(r.$metadata.httpStatusCode, status, JSON.stringify(cond));
    }
    await refused(send('PutObject', { Bucket, Key: 'r', Body: 'x', IfNoneMatch: '*' }), 'PreconditionFailed', 412);
    await refused(send('PutObject', { Bucket, Key: 'r', Body: 'x', IfMatch: '"x"' }), 'PreconditionFailed', 412);
    await send('PutObject', { Bucket, Key: 'r', Body: 'x', IfMatch: ETag });
    assert.equal(await text(await send('GetObject', { Bucket, Key: 'r' })), 'x');
  });

  await test('S3: lists', async () => {
    const B = 's3-lists';
    await send('CreateBucket', { Bucket: B });
    const keys = ['a', 'b/1', 'b/2', 'b/c/1', 'c', 'd/1', 'e f+g', 'é', '\u{1F600}', 'z<&>"'];
    await Promise.all(keys.map((Key) => send('PutObject', { Bucket: B, Key, Body: Key })));
    const sorted = [...keys].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
    const names = (r) => [...(r.Contents ?? []).map((o) => o.Key), ...(r.CommonPrefixes ?? []).map((o) => o.Prefix)].sort();
    const v2 = await send('ListObjectsV2', { Bucket: B });
    assert.deepEqual([v2.Contents.map((o) => o.Key), v2.KeyCount, v2.IsTruncated, v2.Contents[0].Size, v2.Contents[0].ETag, v2.Contents[0].StorageClass], [sorted, 10, false, 1, `"${md5('a').toString('hex')}"`, 'STANDARD']);
    const paged = [];
    for await (const page of s3.paginateListObjectsV2({ client, pageSize: 3 }, { Bucket: B })) paged.push(...page.Contents.map((o) => o.Key));
    assert.deepEqual(paged, sorted);
    const one = [];
    for (let Marker, r; ; Marker = r.NextMarker) {
      r = await send('ListObjects', { Bucket: B, MaxKeys: 2, Delimiter: '/', Marker });
      one.push(...names(r));
      if (!r.IsTruncated) break;
    }
    assert.deepEqual(one.sort(), ['a', 'b/', 'c', 'd/', 'e f+g', 'é', '\u{1F600}', 'z<&>"'].sort());
    assert.deepEqual(names(await send('ListObjectsV2', { Bucket: B, Prefix: 'b/', Delimiter: '/' })), ['b/1', 'b/2', 'b/c/']);
    assert.deepEqual(names(await send('ListObjectsV2', { Bucket: B, StartAfter: 'd/1', Delimiter: '/' })), ['e f+g', 'é', '\u{1F600}', 'z<&>"'].sort());
    assert.deepEqual((await send('ListObjectsV2', { Bucket: B, EncodingType: 'url', Prefix: 'e' })).Contents.map((o) => o.Key), ['e%20f%2Bg']);
    assert.deepEqual(names(await send('ListObjectsV2', { Bucket: B, MaxKeys: 0 })), []);
    await refused(send('ListObjectsV2', { Bucket: B, ContinuationToken: 'nonsense' }), 'InvalidArgument', 400);
    const gone = await send('DeleteObjects', { Bucket: B, Delete: { Objects: [...keys, 'none'].map((Key) => ({ Key })) } });
    assert.deepEqual([gone.Deleted.length, gone.Errors], [11, undefined]);
    assert.equal((await send('ListObjectsV2', { Bucket: B })).KeyCount, 0);
    await send('DeleteBucket', { Bucket: B });
  });

  await test('S3: copies', async () => {
    await send('PutObject', { Bucket, Key: 'from ü', Body: bytes(100_000), ContentType: 'a/b', Metadata: { x: '1', y: '2' } });
    const copied = await send('CopyObject', { Bucket, Key: 'to', CopySource: encodeURIComponent(`${Bucket}/from ü`) });
    assert.equal(copied.CopyObjectResult.ETag, `"${md5(bytes(100_000)).toString('hex')}"`);
    await send('DeleteObject', { Bucket, Key: 'from ü' });
    const to = await send('GetObject', { Bucket, Key: 'to' });
    assert.deepEqual([to.ContentType, to.Metadata, Buffer.from(await to.Body.transformToByteArray()).equals(bytes(100_000))], ['a/b', { x: '1', y: '2' }, true]);
    await send('CopyObject', { Bucket, Key: 'to', CopySource: `/${Bucket}/to`, MetadataDirective: 'REPLACE', ContentType: 'c/d', Metadata: { z: '3' } });
    const again = await send('HeadObject', { Bucket, Key: 'to' });
    assert.deepEqual([again.ContentType, again.Metadata], ['c/d', { z: '3' }]);
    await refused(send('CopyObject', { Bucket, Key: 'to', CopySource: `${Bucket}/to` }), 'InvalidRequest', 400);
    await refused(send('CopyObject', { Bucket, Key: 'x', CopySource: `${Bucket}/none` }), 'NoSuchKey', 404);
    await refused(send('CopyObject', { Bucket, Key: 'x', CopySource: `${Bucket}/to`, CopySourceIfNoneMatch: copied.CopyObjectResult.ETag }), 'PreconditionFailed', 412);
    const merge = await request({ port: p.port, method: 'PUT', path: `/s3/${p.account}/${Bucket}/merged`, host: `127.0.0.1:${p.port}`,
      headers: sign({ method: 'PUT', path: `/s3/${p.account}/${Bucket}/merged`, id: key.accessKeyId, secret: key.secretAccessKey, host: `127.0.0.1:${p.port}`,
        headers: { 'x-amz-copy-source': `${Bucket}/to`, 'x-amz-metadata-directive': 'MERGE', 'x-amz-meta-new': '4' } }).headers });
    assert.equal(merge.status, 200, await merge.text());
    assert.deepEqual((await send('HeadObject', { Bucket, Key: 'merged' })).Metadata, { z: '3', new: '4' });
  });

  await test('S3: uploads in parts', async () => {
    const Key = 'multi';
    const parts = [bytes(MIN, 1), bytes(MIN, 2), bytes(777, 3)];
    const { UploadId } = await send('CreateMultipartUpload', { Bucket, Key, ContentType: 'm/p', Metadata: { of: 'upload' } });
    const open = await send('ListMultipartUploads', { Bucket });
    assert.deepEqual(open.Uploads.map((u) => [u.Key, u.UploadId]), [[Key, UploadId]]);
    const done = [];
    for (const i of [2, 0, 1]) done[i] = { PartNumber: i + 1, ...await send('UploadPart', { Bucket, Key, UploadId, PartNumber: i + 1, Body: parts[i] }) };
    assert.equal(done[0].ETag, `"${md5(parts[0]).toString('hex')}"`);
    const listed = await send('ListParts', { Bucket, Key, UploadId });
    assert.deepEqual(listed.Parts.map((x) => [x.PartNumber, x.Size, x.ETag]), done.map((x, i) => [i + 1, parts[i].length, x.ETag]));
    assert.deepEqual([(await send('ListParts', { Bucket, Key, UploadId, MaxParts: 1 })).IsTruncated, (await send('ListParts', { Bucket, Key, UploadId, PartNumberMarker: '2' })).Parts.length], [true, 1]);
    const Parts = done.map(({ PartNumber, ETag, ChecksumCRC32 }) => ({ PartNumber, ETag, ChecksumCRC32 }));
    await refused(send('CompleteMultipartUpload', { Bucket, Key, UploadId, MultipartUpload: { Parts: [Parts[1], Parts[0]] } }), 'InvalidPartOrder', 400);
    await refused(send('CompleteMultipartUpload', { Bucket, Key, UploadId, MultipartUpload: { Parts: [{ ...Parts[0], ETag: Parts[1].ETag }] } }), 'InvalidPart', 400);
    await refused(send('CompleteMultipartUpload', { Bucket, Key, UploadId, MultipartUpload: { Parts: [Parts[2], { PartNumber: 9, ETag: 'x' }] } }), 'InvalidPart', 400);
    await refused(send('CompleteMultipartUpload', { Bucket, Key, UploadId, MultipartUpload: { Parts: [] } }), 'MalformedXML', 400);
    const whole = await send('CompleteMultipartUpload', { Bucket, Key, UploadId, MultipartUpload: { Parts } });
    assert.equal(whole.ETag, `"${md5(Buffer.concat(parts.map(md5))).toString('hex')}-3"`);
    assert.match(whole.ChecksumCRC32 ?? '-3', /-3$/);
    const got = await send('GetObject', { Bucket, Key });
    assert.equal(hex(Buffer.from(await got.Body.transformToByteArray())), hex(Buffer.concat(parts)));
    assert.deepEqual([got.ContentType, got.Metadata], ['m/p', { of: 'upload' }]);
    const second = await send('GetObject', { Bucket, Key, PartNumber: 2 });
    assert.deepEqual([second.PartsCount, second.ContentRange, hex(Buffer.from(await second.Body.transformToByteArray()))], [3, `bytes ${MIN}-${2 * MIN - 1}/${2 * MIN + 777}`, hex(parts[1])]);
    await refused(send('UploadPart', { Bucket, Key, UploadId, PartNumber: 1, Body: 'x' }), 'NoSuchUpload', 404);

    const copy = await send('CreateMultipartUpload', { Bucket, Key: 'of copies' });
    const first = await send('UploadPartCopy', { Bucket, Key: 'of copies', UploadId: copy.UploadId, PartNumber: 1, CopySource: `${Bucket}/${Key}`, CopySourceRange: `bytes=100-${MIN + 99}` });
    await refused(send('UploadPartCopy', { Bucket, Key: 'of copies', UploadId: copy.UploadId, PartNumber: 2, CopySource: `${Bucket}/${Key}`, CopySourceRange: `bytes=0-${9 * MIN}` }), 'InvalidRange', 416);
    const last = await send('UploadPart', { Bucket, Key: 'of copies', UploadId: copy.UploadId, PartNumber: 2, Body: 'end' });
    await send('CompleteMultipartUpload', { Bucket, Key: 'of copies', UploadId: copy.UploadId, MultipartUpload: { Parts: [{ PartNumber: 1, ETag: first.CopyPartResult.ETag }, { PartNumber: 2, ETag: last.ETag }] } });
    assert.equal(hex(Buffer.from(await (await send('GetObject', { Bucket, Key: 'of copies' })).Body.transformToByteArray())), hex(Buffer.concat([Buffer.concat(parts).subarray(100, MIN + 100), Buffer.from('end')])));

    const small = await send('CreateMultipartUpload', { Bucket, Key });
    const two = [];
    for (const i of [1, 2]) two.push({ PartNumber: i, ETag: (await send('UploadPart', { Bucket, Key, UploadId: small.UploadId, PartNumber: i, Body: 'too small' })).ETag });
    await refused(send('CompleteMultipartUpload', { Bucket, Key, UploadId: small.UploadId, MultipartUpload: { Parts: two } }), 'EntityTooSmall', 400);
    await send('AbortMultipartUpload', { Bucket, Key, UploadId: small.UploadId });
    await refused(send('ListParts', { Bucket, Key, UploadId: small.UploadId }), 'NoSuchUpload', 404);
    assert.equal((await send('ListMultipartUploads', { Bucket })).Uploads, undefined);
  });

  await test('S3: presigned URLs', async () => {
    const put = await getSignedUrl(client, new s3.PutObjectCommand({ Bucket, Key: 'signed ü' }), { expiresIn: 60 });
    assert.equal((await fetch(put, { method: 'PUT', body: 'by url' })).status, 200);
    const get = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: 'signed ü' }), { expiresIn: 60 });
    assert.equal(await (await fetch(get)).text(), 'by url');
    assert.equal((await fetch(get)).status, 200); // as often as one likes, until it expires
    const code = async (url, init) => { const r = await fetch(url, init); return [r.status, /<Code>(\w+)/.exec(await r.text())?.[1]]; };
    assert.deepEqual(await code(get.replace('signed', 'other')), [403, 'SignatureDoesNotMatch']);
    assert.deepEqual(await code(get, { method: 'DELETE' }), [403, 'SignatureDoesNotMatch']);
    assert.deepEqual(await code(get.replace(/X-Amz-Expires=60/, 'X-Amz-Expires=604800')), [403, 'SignatureDoesNotMatch']);
    const old = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: 'signed ü' }), { expiresIn: 60, signingDate: new Date(Date.now() - 120_000) });
    assert.deepEqual(await code(old), [400, 'ExpiredRequest']);
    const early = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: 'signed ü' }), { expiresIn: 60, signingDate: new Date(Date.now() + 3_600_000) });
    assert.deepEqual(await code(early), [403, 'AccessDenied']);
  });

  await test('S3: encryption under the customer\'s key', async () => {
    const k = crypto.randomBytes(32);
    const sse = (x = k) => ({ SSECustomerAlgorithm: 'AES256', SSECustomerKey: x.toString('base64'), SSECustomerKeyMD5: md5(x).toString('base64') });
    for (const n of [10, 200_000]) {
      await send('PutObject', { Bucket, Key: 'secret', Body: bytes(n), ...sse() });
      const got = await send('GetObject', { Bucket, Key: 'secret', ...sse() });
      assert.ok(Buffer.from(await got.Body.transformToByteArray()).equals(bytes(n)));
      assert.equal(got.SSECustomerAlgorithm, 'AES256');
      await refused(send('GetObject', { Bucket, Key: 'secret' }), 'InvalidRequest', 400);
      await refused(send('GetObject', { Bucket, Key: 'secret', ...sse(crypto.randomBytes(32)) }), 'AccessDenied', 403);
    }
    await refused(send('GetObject', { Bucket, Key: 'r', ...sse() }), 'InvalidRequest', 400);
  });

  await test('S3: CORS and lifecycle', async () => {
    await refused(send('GetBucketCors', { Bucket }), 'NoSuchCORSConfiguration', 404);
    const CORSRules = [{ AllowedOrigins: ['https://*.example.com'], AllowedMethods: ['GET', 'PUT'], AllowedHeaders: ['*'], ExposeHeaders: ['ETag'], MaxAgeSeconds: 600 }];
    await send('PutBucketCors', { Bucket, CORSConfiguration: { CORSRules } });
    assert.deepEqual((await send('GetBucketCors', { Bucket })).CORSRules, CORSRules);
    const preflight = await request({ port: p.port, method: 'OPTIONS', path: `/s3/${p.account}/${Bucket}/r`, headers: { origin: 'https://a.example.com', 'access-control-request-method': 'PUT', 'access-control-request-headers': 'x-amz-date' } });
    assert.deepEqual([preflight.status, preflight.headers['access-control-allow-origin'], preflight.headers['access-control-allow-methods'], preflight.headers['access-control-max-age']], [204, 'https://a.example.com', 'GET, PUT', '600']);
    assert.equal((await request({ port: p.port, method: 'OPTIONS', path: `/s3/${p.account}/${Bucket}/r`, headers: { origin: 'https://evil.com', 'access-control-request-method': 'PUT' } })).status, 403);
    const url = await getSignedUrl(client, new s3.GetObjectCommand({ Bucket, Key: 'r' }));
    const got = await fetch(url, { headers: { origin: 'https://a.example.com' } });
    assert.deepEqual([got.status, got.headers.get('access-control-allow-origin'), got.headers.get('access-control-expose-headers')], [200, 'https://a.example.com', 'ETag']);
    assert.equal((await fetch(url, { headers: { origin: 'https://evil.com' } })).headers.get('access-control-allow-origin'), null);
    await send('DeleteBucketCors', { Bucket });
    assert.equal((await send('GetBucketLifecycleConfiguration', { Bucket })).Rules[0].AbortIncompleteMultipartUpload.DaysAfterInitiation, 7);
    const Rules = [{ ID: 'tmp', Filter: { Prefix: 'tmp/' }, Status: 'Enabled', Expiration: { Days: 3 } }, { ID: 'mp', Filter: { Prefix: '' }, Status: 'Disabled', AbortIncompleteMultipartUpload: { DaysAfterInitiation: 1 } }];
    await send('PutBucketLifecycleConfiguration', { Bucket, LifecycleConfiguration: { Rules } });
    assert.deepEqual((await send('GetBucketLifecycleConfiguration', { Bucket })).Rules, Rules);
    await send('DeleteBucketLifecycle', { Bucket });
    await refused(send('GetBucketAcl', { Bucket }), 'NotImplemented', 501);
    await refused(send('PutObjectTagging', { Bucket, Key: 'r', Tagging: { TagSet: [] } }), 'NotImplemented', 501);
  });

  const host = `127.0.0.1:${p.port}`;
  // A request by hand; opts.change spoils it after it was signed.
  const raw = async ({ method = 'PUT', Key = 'raw', query = '', body, change = (h) => h, ...opts }) => {
    const path = `/s3/${p.account}/${Bucket}/${Key}`;
    const signed = sign({ method, path, query, id: key.accessKeyId, secret: key.secretAccessKey, host, ...opts });
    const made = typeof body === 'function' ? body(signed) : body;
    const r = await request({ port: p.port, method, path: path + (query ? `?${query}` : ''), host, headers: change({ ...signed.headers, ...(made === undefined ? {} : { 'content-length': Buffer.byteLength(made) }) }), body: made });
    const answer = await r.text();
    return [r.status, /<Code>(\w+)/.exec(answer)?.[1]];
  };

  await test('S3: wrong signatures, keys, times and hashes', async () => {
    assert.deepEqual(await raw({ body: 'good' }), [200, undefined]);
    assert.deepEqual(await raw({ body: 'x', secret: hex('wrong') }), [403, 'SignatureDoesNotMatch']);
    assert.deepEqual(await raw({ body: 'x', id: '0'.repeat(32) }), [403, 'InvalidAccessKeyId']);
    assert.deepEqual(await raw({ body: 'x', at: new Date(Date.now() - 16 * 60_000) }), [403, 'RequestTimeTooSkewed']);
    assert.deepEqual(await raw({ body: 'x', at: new Date(Date.now() + 16 * 60_000) }), [403, 'RequestTimeTooSkewed']);
    assert.deepEqual(await raw({ body: 'x', change: ({ authorization, ...h }) => h }), [403, 'AccessDenied']);
    assert.deepEqual(await raw({ body: 'x', change: (h) => ({ ...h, authorization: 'AWS4-HMAC-SHA256 nonsense' }) }), [400, 'AuthorizationHeaderMalformed']);
    assert.deepEqual(await raw({ body: 'x', change: (h) => ({ ...h, 'x-amz-date': '20200101T000000Z' }) }), [400, 'AuthorizationHeaderMalformed']);
    assert.deepEqual(await raw({ body: 'another', payload: hex('body') }), [400, 'XAmzContentSHA256Mismatch']);
    assert.deepEqual(await raw({ body: 'x', payload: 'STREAMING-NONSENSE' }), [501, 'NotImplemented']);
    assert.deepEqual(await raw({ body: 'x', headers: { 'content-md5': md5('y').toString('base64') } }), [400, 'BadDigest']);
    assert.deepEqual(await raw({ body: 'x', headers: { 'content-md5': 'short' } }), [400, 'InvalidDigest']);
    assert.deepEqual(await raw({ body: 'x', headers: { 'x-amz-checksum-crc32': 'AAAAAA==' } }), [400, 'BadDigest']);
    assert.deepEqual(await raw({ body: 'x', headers: { 'x-amz-checksum-crc32': 'AA==' } }), [400, 'InvalidDigest']);
    assert.deepEqual(await raw({ body: 'x', headers: { 'x-amz-tagging': 'a=b' } }), [501, 'NotImplemented']);
    assert.deepEqual(await raw({ method: 'GET', Key: '%ff' }), [400, 'InvalidObjectName']);
    assert.deepEqual(await raw({ method: 'GET', Key: 'a%00b' }), [400, 'InvalidObjectName']);
    assert.equal(await text(await send('GetObject', { Bucket, Key: 'raw' })), 'good'); // nothing of all that was stored
    const other = await request({ port: p.port, path: `/s3/${'f'.repeat(32)}/`, host, headers: sign({ path: `/s3/${'f'.repeat(32)}/`, id: key.accessKeyId, secret: key.secretAccessKey, host }).headers });
    assert.deepEqual([other.status, /<Code>(\w+)/.exec(await other.text())[1]], [403, 'AccessDenied']);
  });

  await test('S3: chunks, signed and not, whole and lying', async () => {
    const STREAM = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD', UNSIGNED = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER';
    const chunked = (list, spoil = (b) => b) => (s) => {
      let before = s.signature, out = '';
      for (const chunk of [...list, '']) {
        before = s.mac(s.key, ['AWS4-HMAC-SHA256-PAYLOAD', s.date, s.scope, before, hex(''), hex(chunk)].join('\n')).toString('hex');
        out += `${chunk.length.toString(16)};chunk-signature=${before}\r\n${chunk}\r\n`;
      }
      return spoil(out);
    };
    const n = (x) => ({ 'x-amz-decoded-content-length': String(x), 'content-encoding': 'aws-chunked' });
    const big = 'y'.repeat(100_000);
    assert.deepEqual(await raw({ payload: STREAM, headers: n(100_010), body: chunked([big, '0123456789']) }), [200, undefined]);
    assert.equal(await text(await send('GetObject', { Bucket, Key: 'raw' })), `${big}0123456789`);
    assert.deepEqual(await raw({ payload: STREAM, headers: n(10), body: chunked(['0123456789'], (b) => b.replace('0123456789', '0123456780')) }), [403, 'SignatureDoesNotMatch']);
    assert.deepEqual(await raw({ payload: STREAM, headers: n(20), body: chunked(['0123456789', '0123456789'], (b) => b.split('\r\n').slice(2).join('\r\n')) }), [403, 'SignatureDoesNotMatch']);
    assert.deepEqual(await raw({ payload: STREAM, headers: n(11), body: chunked(['0123456789']) }), [400, 'IncompleteBody']);
    assert.deepEqual(await raw({ payload: STREAM, headers: n(9), body: chunked(['0123456789']) }), [400, 'IncompleteBody']);
    const t = { ...n(5), 'x-amz-trailer': 'x-amz-checksum-crc32' };
    assert.deepEqual(await raw({ payload: UNSIGNED, headers: t, body: '5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n' }), [200, undefined]);
    assert.deepEqual(await raw({ payload: UNSIGNED, headers: t, body: '5\r\nhallo\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n' }), [400, 'BadDigest']);
    assert.deepEqual(await raw({ payload: UNSIGNED, headers: t, body: '5\r\nhello\r\n0\r\n\r\n' }), [400, 'MalformedTrailerError']);
    for (const body of ['6\r\nhello\r\n0\r\n\r\n', 'zz\r\n', 'ffffffffffffffff\r\nhello', '5\r\nhello\r\n', '']) assert.deepEqual(await raw({ payload: UNSIGNED, headers: n(5), body }), [400, 'IncompleteBody'], JSON.stringify(body));
    assert.equal(await text(await send('GetObject', { Bucket, Key: 'raw' })), 'hello');
    for (const body of ['', '<', '<Delete/>', '<!DOCTYPE x [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>', `<Delete>${'<Object><Key>k</Key></Object>'.repeat(1001)}</Delete>`])
      assert.deepEqual(await raw({ method: 'POST', Key: '', query: 'delete=', body }), [400, 'MalformedXML'], body.slice(0, 60));
  });

  await test('S3: an upload that stops half-way leaves nothing, a thousand open ones cost no memory', async () => {
    const path = `/s3/${p.account}/${Bucket}/half`;
    const { headers } = sign({ method: 'PUT', path, id: key.accessKeyId, secret: key.secretAccessKey, host });
    const r = http.request({ host: '127.0.0.1', port: p.port, method: 'PUT', path, headers: { ...headers, 'content-length': 1_000_000 } });
    r.on('error', () => {});
    r.write(Buffer.alloc(500_000));
    const folder = `${p.data}/r2/big`;
    const files = () => fs.readdirSync(folder).length;
    const before = files();
    await until('its file', () => files() > before || before);
    r.destroy();
    await refused(send('GetObject', { Bucket, Key: 'half' }), 'NoSuchKey', 404);
    const rss = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${p.processes('daemon')[0].pid}/status`, 'utf8'))[1]);
    const was = rss();
    for (let i = 0; i < 1000; i += 50) await Promise.all(Array.from({ length: 50 }, (_, k) => send('CreateMultipartUpload', { Bucket, Key: `open/${i + k}` })));
    assert.ok(rss() - was < 20_000, `${rss() - was} KiB more`);
    const all = [];
    for (let at = {}, page; ; at = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }) {
      page = await send('ListMultipartUploads', { Bucket, MaxUploads: 300, Prefix: 'open/', ...at });
      all.push(...page.Uploads);
      if (!page.IsTruncated) break;
    }
    assert.equal(new Set(all.map((u) => u.UploadId)).size, 1000);
  });
}
