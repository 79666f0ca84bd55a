/** Devices: what there is, what 'auto' takes, and that a device that was asked for is never replaced silently. Holds with a GPU and without. */
import { describe, expect, test } from 'vitest';

import { banyan, rejection } from '../helpers/banyan.js';
import { kSmall, writeModel } from '../helpers/model.js';

const small = writeModel(kSmall);

describe('devices', () => {
  test('the addon loads wherever it was built and says what it can use', () => {
    const here = banyan.devices();
    expect(here.cpu).toMatch(/^cpu \(\w+, \d+ threads?\)$/);
    expect(here.cpuVariants).toEqual(banyan.cpuVariants());
    if (here.cuda === null) expect(here.cudaObstacle).toMatch(/\bCUDA\b/);
    else expect(here).toMatchObject({ cuda: expect.stringMatching(/^cuda \(.+, sm_\d+\)$/), cudaObstacle: '' });
  });

  test("'auto' takes the GPU, or says why not", async () => {
    const { cpu, cuda, cudaObstacle } = banyan.devices();
    await using model = await banyan.loadModel(small);
    expect(model.info).toMatchObject({ device: cuda ?? cpu, deviceReason: cudaObstacle });
  });

  test("'cpu' is the CPU and needs no reason", async () => {
    await using model = await banyan.loadModel({ ...small, device: 'cpu' });
    expect(model.info).toMatchObject({ device: banyan.devices().cpu, deviceReason: '' });
  });

  test("'cuda' is the GPU or a typed error that says why not", async () => {
    const { cuda, cudaObstacle } = banyan.devices();
    if (cuda === null) {
      const error = await rejection(banyan.loadModel({ ...small, device: 'cuda' }));
      expect(error).toMatchObject({ code: 'BANYAN_NO_DEVICE', message: expect.stringContaining(cudaObstacle) });
      return;
    }
    await using model = await banyan.loadModel({ ...small, device: 'cuda' });
    expect(model.info).toMatchObject({ device: cuda, deviceReason: '' });
  });
});
